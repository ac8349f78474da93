-- What those were answered whose request is known, once more, whatever has changed since.
-- They are looked up with ids named as ranges and in their order, and nothing may be sorted: so the primary keys are the only way in.

create or replace function internal.recall_recognitions(p_asks internal.recognition_ask[])
returns setof internal.recognition_given
language plpgsql volatile
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
begin
  return query
  select a.position, r.id, internal.points_text(r.points), k.recipients, r.funded_by::text, internal.points_text(r.pool_after), true, null::jsonb
    from unnest(p_asks) as a
   cross join lateral (
         select x.* from public.recognitions as x
          where x.tenant_id = a.tenant_id and x.id >= a.id and x.id <= a.id
          order by x.id limit 1) as r
   cross join lateral (
         select jsonb_agg(jsonb_build_object('user_id', x.user_id, 'points', internal.points_text(x.points),
                  'new_wallet_balance', internal.points_text(l.balance_after), 'ledger_entry_id', x.entry_id) order by x.place) as recipients
           from (select y.* from public.recognition_recipients as y
                  where y.tenant_id = a.tenant_id and y.recognition_id >= a.id and y.recognition_id <= a.id
                  order by y.recognition_id limit 200) as x
           left join lateral (
                select y.balance_after from public.wallet_ledger as y
                 where y.tenant_id = x.tenant_id and y.id >= x.entry_id and y.id <= x.entry_id
                   and y.user_id >= x.user_id and y.user_id <= x.user_id
                 order by y.id, y.user_id limit 1) as l on true) as k
   where a.verdict = 'known';
end
$$;
