-- Why does a redemption fail though there should be points? One user's balance as cached and as the events say, and what
-- still waits or is held.

create or replace function public.report_balance(p_user_id uuid)
returns table (user_id uuid, cached bigint, actual bigint, pending bigint, pending_events bigint, in_review bigint, held bigint)
language sql stable
set search_path = ''
as $$
  select p_user_id, c.available_points,
         (select sum(e.points_delta) from public.points_events as e where e.user_id = p_user_id and e.validation_status = 'validated'),
         c.pending_points,
         (select count(*) from public.points_events as e where e.user_id = p_user_id and e.validation_status = 'pending'),
         (select count(*) from public.points_events as e where e.user_id = p_user_id and e.validation_status = 'pending_review'),
         coalesce(a.held, 0)
    from (values (p_user_id)) as u(user_id)
    left join public.user_points_cache as c on c.user_id = u.user_id
    left join ledger.accounts as a on a.book_id = u.user_id and a.account = 'points'
$$;
