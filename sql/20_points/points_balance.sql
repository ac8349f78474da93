-- What a user has: to spend, set aside, waiting for validation, and over time. Read from the ledger, not from its cache.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: nothing; a user without a row has nothing.

create or replace function public.points_balance(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform internal.act_for(array[p_user_id]);
  return (
    select jsonb_build_object(
             'available_points', coalesce(a.balance - a.held, 0), 'held_points', coalesce(a.held, 0),
             'pending_points', coalesce(c.pending_points, 0),
             'lifetime_earned', coalesce(c.lifetime_earned, 0), 'lifetime_spent', coalesce(c.lifetime_spent, 0))
      from (values (p_user_id)) as u(user_id)
      left join ledger.accounts as a on a.book_id = u.user_id and a.account = 'points'
      left join public.user_points_cache as c on c.user_id = u.user_id);
end
$$;
