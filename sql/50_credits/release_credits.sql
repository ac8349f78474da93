-- Gives back what was reserved for a call of a model that is not made: internal.release_credits_batch for one request.
-- Returns {reservation_id, released, available, account, replayed}.
--
-- Replay, Locks, Refuses: as internal.release_credits_batch.

create or replace function public.release_credits(p_user_id uuid, p_reservation_id uuid, p_by_user boolean default false)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_outcome internal.outcome;
begin
  select o.* into v_outcome
    from internal.release_credits_batch(jsonb_build_array(jsonb_build_object(
           'user_id', p_user_id, 'reservation_id', p_reservation_id, 'by_user', p_by_user))) as o;
  return internal.single(v_outcome);
end
$$;
