-- What a user lets a calendar month cost, in UTC, and how much of it is left: spent is what usage cost less what was refunded,
-- reserved is what calls under way may cost yet.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: nothing; a user without a row has no cap.

create or replace function public.monthly_cap(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform internal.act_for(array[p_user_id]);
  return internal.monthly_cap(p_user_id);
end
$$;
