-- Makes a user's cache row what the ledger says, and returns the points the user can spend.
-- Posts first what an administrator validated by hand and nothing has posted yet, as the runbook expects: what gives before
-- what takes. What takes more than there is stays unposted, with a warning, and `ledger.discrepancies` lists it until an
-- opposite event makes room: one mistake must not hold up the refresh of everybody.
--
-- Replay:  a second refresh finds nothing to post and writes the same row.
-- Locks:   the events it posts, the account, the cache row.
-- Refuses: nothing.

create or replace function public.refresh_user_points_cache(p_user_id uuid)
returns bigint
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_moves internal.points_move[];
  v_posted ledger.posted;
  v_available bigint;
begin
  perform internal.act_for(array[p_user_id]);

  with unposted as (
    select e.user_id, e.id, e.points_delta, e.event_type, e.event_time
      from public.points_events as e
     where e.user_id = p_user_id and e.validation_status = 'validated' and e.transfer_id is null and e.points_delta <> 0
     order by e.id
       for update
  )
  select array_agg(row(u.user_id, u.id, u.points_delta, 0, u.event_type, u.event_time)::internal.points_move
                   order by u.points_delta < 0, u.event_time, u.id)
    into v_moves
    from unposted as u;

  if v_moves is not null then
    for v_posted in select o.* from internal.move_points(v_moves) as o loop
      if v_posted.outcome = 'insufficient_funds' then
        raise warning 'event % takes more than the user has', v_posted.transfer_id using hint = 'Make room with an opposite event.';
      else
        update public.points_events as e set transfer_id = e.id where e.user_id = p_user_id and e.id = v_posted.transfer_id;
      end if;
    end loop;
  end if;

  perform ledger.lock(array[p_user_id], 'points');
  -- What others write about this user ends at this row. Only the statement after this one sees all that came before it.
  insert into public.user_points_cache as c (user_id) values (p_user_id)
  on conflict (user_id) do update set updated_at = excluded.updated_at;

  update public.user_points_cache as c
     set available_points = t.earned - t.spent, pending_points = p.pending,
         lifetime_earned = t.earned, lifetime_spent = t.spent, last_event_id = l.id
    from (select coalesce(sum(x.amount) filter (where x.to_account = 'points'), 0) as earned,
                 coalesce(sum(x.amount) filter (where x.from_account = 'points'), 0) as spent
            from ledger.transfers as x
           where x.book_id = p_user_id and 'points' in (x.from_account, x.to_account)) as t
   cross join (select coalesce(sum(e.points_delta), 0) as pending
                 from public.points_events as e
                where e.user_id = p_user_id and e.transfer_id is null
                  and e.validation_status in ('pending', 'validating', 'pending_review', 'flagged')) as p
    left join lateral (select e.id from public.points_events as e
                where e.user_id = p_user_id and e.transfer_id is not null order by e.id desc limit 1) as l on true
   where c.user_id = p_user_id
  returning c.available_points into v_available;
  return v_available;
end
$$;
