-- Whom a recognition went to, one or several, in the order in which they were named. A row is seen by whoever sees what it is of.

create or replace view public.recognition_recipients with (security_invoker = true) as
select r.tenant_id, r.id as recognition_id, r.to_user_id as user_id, r.points, 1 as place,
       case when r.points > 0 then r.id end as entry_id  -- the wallet_ledger's row; null where there were no points
  from public.recognitions as r
 where r.to_user_id is not null
 union all
select g.tenant_id, g.recognition_id, g.user_id, g.points, g.place, g.entry_id
  from public.recognition_groups as g;
