-- The rules as they are, with what p_changes says of them instead: [{"rule_id", "weight"?, "parameters"?, "mode"?}].
--
-- Refuses: invalid_body: no list, an unknown rule or member, a value that the rule's column would not take.

create or replace function internal.changed_trust_rules(p_changes jsonb)
returns public.trust_rules[]
language plpgsql stable
set search_path = ''
as $$
declare
  v_change jsonb;
  v_rules public.trust_rules[];
begin
  if p_changes is not null and jsonb_typeof(p_changes) <> 'array' then
    perform internal.refuse('invalid_body', 'rules: must be a list of rules');
  end if;
  for v_change in select c.value from jsonb_array_elements(coalesce(p_changes, '[]')) as c loop
    if jsonb_typeof(v_change) <> 'object' or v_change - array['rule_id', 'weight', 'parameters', 'mode'] <> '{}'
       or jsonb_path_exists(v_change, '$.* ? (@ == null)') then
      perform internal.refuse('invalid_body', 'rules: each has a rule_id, and weight, parameters and mode where they change');
    end if;
    if not exists (select from public.trust_rules as r where r.rule_id = v_change ->> 'rule_id') then
      perform internal.refuse('invalid_body', format('rules: there is no rule %s', v_change ->> 'rule_id'));
    end if;
  end loop;
  begin
    v_rules := array(
      select coalesce((
               select jsonb_populate_record(r, c.value) from jsonb_array_elements(p_changes) as c
                where c.value ->> 'rule_id' = r.rule_id limit 1), r)
        from public.trust_rules as r);
  exception when data_exception or check_violation then
    perform internal.refuse('invalid_body', format('rules: %s', sqlerrm));
  end;
  return v_rules;
end
$$;
