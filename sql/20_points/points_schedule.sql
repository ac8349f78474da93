-- What of a user's own points expires when, the soonest first: {"lots": [{expires_at, points}]}, one entry a moment.
--
-- Replay:  reads only.
-- Locks:   none.
-- Refuses: nothing; where nothing expires the list is empty.

create or replace function public.points_schedule(p_user_id uuid)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  perform internal.act_for(array[p_user_id]);
  return (
    select jsonb_build_object('lots', coalesce(jsonb_agg(jsonb_build_object('expires_at', d.expires_at, 'points', d.points) order by d.expires_at), '[]'))
      from (select l.expires_at, sum(l.remaining) as points
              from internal.earned_lots(array[p_user_id]) as l
             where l.remaining > 0 and l.expires_at is not null
             group by l.expires_at) as d);
end
$$;
