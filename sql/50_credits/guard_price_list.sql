-- Keeps a price list as it was published: once it is in force none of its rows comes, changes or goes, whoever asks. One
-- that takes effect at once is written by the transaction that publishes it, whose time is the price list's own.

create or replace function internal.guard_price_list()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_now timestamptz := internal.clock();
  v_before jsonb := case when tg_op in ('UPDATE', 'DELETE') then to_jsonb(old) end;
  v_after jsonb := case when tg_op in ('UPDATE', 'INSERT') then to_jsonb(new) end;
  v_was_from timestamptz;
  v_is_from timestamptz;
begin
  select v.effective_from into v_was_from from public.pricing_versions as v where v.version = (v_before ->> 'version')::int;
  select v.effective_from into v_is_from from public.pricing_versions as v where v.version = (v_after ->> 'version')::int;
  v_is_from := coalesce((v_after ->> 'effective_from')::timestamptz, v_is_from);
  if tg_op = 'TRUNCATE' or v_was_from <= v_now or v_is_from < v_now or tg_op = 'UPDATE' and v_is_from = v_now then
    raise exception using
      errcode = '42501',
      message = format('%I.%I: a price list in force does not change', tg_table_schema, tg_table_name),
      hint    = 'Publish a new one.';
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end
$$;

create or replace trigger a_price_list_in_force_stays before insert or update or delete on public.pricing_versions
for each row execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_is_not_emptied before truncate on public.pricing_versions
for each statement execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_stays before insert or update or delete on public.pricing_models
for each row execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_is_not_emptied before truncate on public.pricing_models
for each statement execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_stays before insert or update or delete on public.pricing_providers
for each row execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_is_not_emptied before truncate on public.pricing_providers
for each statement execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_stays before insert or update or delete on public.pricing_power_levels
for each row execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_is_not_emptied before truncate on public.pricing_power_levels
for each statement execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_stays before insert or update or delete on public.pricing_tiers
for each row execute function internal.guard_price_list();
create or replace trigger a_price_list_in_force_is_not_emptied before truncate on public.pricing_tiers
for each statement execute function internal.guard_price_list();
