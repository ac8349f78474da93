-- A price list with what p_changes says of it instead: {"models": {"gpt-x": 0.02, "old": null}, "providers": {…},
-- "power_levels": {"eco": {"cost_multiplier": 0.2}}, "tiers": {…}, "default_price": 0.01}. Null takes a model, a provider
-- or a power level out. What stays: the power level balanced, which unknown ones count as; every tier, because users have
-- them; and whether a tier is unlimited, because their accounts may owe by it.
--
-- Refuses: invalid_body (changes, with the path of the fault).

create or replace function internal.changed_price_list(p_list jsonb, p_changes jsonb)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  v_fault text;
  v_list jsonb;
begin
  if jsonb_typeof(p_changes) is distinct from 'object' then
    perform internal.refuse('invalid_body', 'changes: must be an object');
  end if;

  with must (part, field, type, least, most, places, or_null) as (
    values
      ('default_price', '',                     'number', 0,        999999999,    9, false),
      ('models',        '',                     'number', 0,        999999999,    9, true),
      ('providers',     '',                     'number', 0,        999999999,    9, true),
      ('power_levels',  'cost_multiplier',      'number', 0,        10000,        4, false),
      ('power_levels',  'max_tokens',           'number', 1,        2147483647,   0, false),
      ('power_levels',  'temperature',          'number', 0,        2,            2, false),
      ('power_levels',  'max_cost_per_request', 'number', 0.000001, 100000000000, 6, true),
      ('power_levels',  'quality',              'number', 0,        1,            2, false),
      ('power_levels',  'latency',              'string', null,     null,         null, false),
      ('power_levels',  'preferred_providers',  'array',  null,     null,         null, false),
      ('tiers',         'markup',               'number', 0,        10000,        4, false),
      ('tiers',         'monthly_credits',      'number', 0,        100000000000, 6, true),
      ('tiers',         'rollover_max',         'number', 0,        100000000000, 6, false),
      ('tiers',         'low_balance_below',    'number', 0,        100000000000, 6, false),
      ('tiers',         'position',             'number', 0,        1000000,      0, false)
  ), part as (
    select p.key as part, p.value, jsonb_typeof(p.value) as type from jsonb_each(p_changes) as p
  ), entry as (
    select p.part, p.part || '.' || e.key as path, e.key as name, e.value, jsonb_typeof(e.value) as type,
           p_list #> array[p.part, e.key] as before
      from part as p
     cross join lateral jsonb_each(case p.type when 'object' then p.value else '{}' end) as e
     where p.part in ('models', 'providers', 'power_levels', 'tiers')
  ), field as (
    select p.part, '' as field, p.part as path, p.value from part as p where p.part = 'default_price'
    union all
    select e.part, '', e.path, e.value from entry as e where e.part in ('models', 'providers')
    union all
    select e.part, f.key, e.path || '.' || f.key, f.value
      from entry as e
     cross join lateral jsonb_each(case e.type when 'object' then e.value else '{}' end) as f
     where e.part in ('power_levels', 'tiers')
  ), fault (path, fault) as (
    select p.part, 'is no part of a price list' from part as p where not exists (select from must as m where m.part = p.part)
    union all
    select p.part, 'must be an object' from part as p where p.part <> 'default_price' and p.type <> 'object'
    union all
    select e.path, 'is no name for one' from entry as e
     where e.name !~ case e.part when 'models' then '^\S{1,200}$' when 'providers' then '^\S{1,100}$' else '^[a-z][a-z_]*$' end
    union all
    select e.path, 'must be an object' from entry as e where e.part in ('power_levels', 'tiers') and e.type not in ('object', 'null')
    union all
    select e.path, 'is not taken out' from entry as e where e.type = 'null' and (e.part = 'tiers' or e.path = 'power_levels.balanced')
    union all
    select e.path || '.' || m.field, 'must be given with a new one'
      from entry as e
      join must as m on m.part = e.part and m.field not in ('max_cost_per_request', 'rollover_max', 'low_balance_below')
     where e.part in ('power_levels', 'tiers') and e.type = 'object' and e.before is null and not e.value ? m.field
    union all
    select e.path || '.monthly_credits', 'a tier stays limited or unlimited, as it is'
      from entry as e
     where e.part = 'tiers' and e.type = 'object' and e.value ? 'monthly_credits'
       and (e.before ->> 'monthly_credits' is null) <> (e.value ->> 'monthly_credits' is null) and e.before is not null
    union all
    select f.path,
           case when m.part is null then 'there is no such member'
                when m.type = 'number' then format('must be a number from %s to %s with at most %s decimal places', m.least, m.most, m.places)
                else format('must be %s', case m.type when 'array' then 'a list of names' else 'a word' end) end
      from field as f
      left join must as m on m.part = f.part and m.field = f.field
     cross join lateral (
           select case jsonb_typeof(f.value) when 'number' then f.value::numeric end as number) as n
     where case
             when m.part is null then true
             when jsonb_typeof(f.value) = 'null' then not m.or_null
             when jsonb_typeof(f.value) <> m.type then true
             when m.type = 'number' then n.number not between m.least and m.most or scale(trim_scale(n.number)) > m.places
             when m.type = 'string' then f.value ->> 0 !~ '^\S{1,100}$'
             else jsonb_path_exists(f.value, '$[*] ? (@.type() != "string")')
           end
  )
  select format('changes.%s: %s', f.path, f.fault) into v_fault from fault as f order by f.path, f.fault limit 1;
  if v_fault is not null then
    perform internal.refuse('invalid_body', v_fault);
  end if;

  with entry as (
    select s.part, n.name, p_list #> array[s.part, n.name] as before, p_changes #> array[s.part, n.name] as change, s.usual
      from (values ('models', null), ('providers', null), ('power_levels', '{"max_cost_per_request": null}'::jsonb),
                   ('tiers', '{"rollover_max": 0, "low_balance_below": 100}')) as s(part, usual)
     cross join lateral (
           select jsonb_object_keys(p_list -> s.part) as name union select jsonb_object_keys(p_changes -> s.part)) as n
  ), part as (
    select e.part, jsonb_object_agg(e.name, case when e.usual is null then coalesce(e.change, e.before)
                                            else coalesce(e.before, e.usual) || coalesce(e.change, '{}') end) as value
      from entry as e
     where jsonb_typeof(e.change) is distinct from 'null'
     group by e.part
  )
  select jsonb_build_object('default_price', coalesce(p_changes -> 'default_price', p_list -> 'default_price'),
           'models', '{}'::jsonb, 'providers', '{}'::jsonb) || jsonb_object_agg(p.part, p.value)
    into v_list
    from part as p;
  return v_list;
end
$$;
