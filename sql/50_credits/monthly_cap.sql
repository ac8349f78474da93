-- A user's monthly cap and how it stands, as it is told to whoever asks and to whoever has set it. What remains is null where
-- there is no cap.

create or replace function internal.monthly_cap(p_user_id uuid)
returns jsonb
language plpgsql stable
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
begin
  return jsonb_build_object(
    'monthly_cap', (select internal.credits_json(c.monthly_cap) from public.user_credits as c where c.user_id = p_user_id),
    'spent', internal.credits_json(internal.month_spent(p_user_id)),
    'reserved', internal.credits_json(coalesce((
      select a.held / 1000000.0 from ledger.accounts as a where a.book_id = p_user_id and a.account = 'credits'), 0)),
    'remaining', internal.credits_json(internal.monthly_cap_room(p_user_id)),
    'resets_at', date_trunc('month', internal.clock()) + interval '1 month');
end
$$;
