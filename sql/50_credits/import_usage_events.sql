-- Brings in what was used before this book was kept: events at the time at which they happened, recorded now. Takes up to
-- 1,000, each by itself: what is refused is named and left out, the others come in.
-- p_source names where they come from. Each event: {line, user_id, event_time, provider, model, power_level, service,
-- event_type, tokens_used, cost, success, key, occurrence, metadata}; the line, the user, the time, the tokens and the cost
-- must be there. `key` is the source's own id of the event; without one, `occurrence` tells equal events of a user apart:
-- 1, 2, …
-- The answer: {imported, tokens, cost, known, refused: [{line, code, detail}]}, with the sums of what came in.
--
-- What is imported was paid for elsewhere and is not charged here: no transaction stands behind it. It counts in every
-- statistic, and what lies in the running month counts towards the user's monthly cap like anything else that was used.
--
-- Replay:  an event that is there already is counted as known.
-- Locks:   the users' credits; so of two imports of one file the later finds what the earlier brought.
-- Refuses: the call: invalid_body. An event: invalid_body, nonce_reused, event_in_future.

create or replace function public.import_usage_events(p_source text, p_events jsonb)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_answer jsonb;
  v_events public.usage_events[];
begin
  if p_source is null or p_source !~ '^[^[:cntrl:]]{1,100}$' then
    perform internal.refuse('invalid_body', 'source: must have 1 to 100 characters');
  end if;
  if jsonb_typeof(p_events) is distinct from 'array' or jsonb_array_length(p_events) > 1000 then
    perform internal.refuse('invalid_body', 'events: must be an array of at most 1000');
  end if;
  perform internal.lock_credits(array(
    select distinct (e ->> 'user_id')::uuid from jsonb_array_elements(p_events) as e where e ->> 'user_id' is not null));

  with line as materialized (
    select l.position, l.line, l.user_id, l.event_time, nullif(l.provider, '') as provider, nullif(l.model, '') as model,
           nullif(l.power_level, '') as power_level, nullif(l.service, '') as service,
           coalesce(nullif(l.event_type, ''), 'usage') as event_type, trim_scale(l.tokens_used) as tokens_used, round(l.cost, 6) as cost,
           coalesce(l.success, true) as success, l.key, coalesce(l.occurrence, 1) as occurrence, nullif(l.metadata, 'null') as metadata
      from rows from (jsonb_to_recordset(p_events) as (
             line bigint, user_id uuid, event_time timestamptz, provider text, model text, power_level text, service text,
             event_type text, tokens_used numeric, cost numeric, success boolean, key text, occurrence int, metadata jsonb))
           with ordinality as l(line, user_id, event_time, provider, model, power_level, service, event_type, tokens_used, cost,
                                success, key, occurrence, metadata, position)
  ), told as materialized (
    -- What an event is, apart from its metadata: of which a source may tell more the next time.
    select l.*, jsonb_build_array(l.event_type, l.event_time, l.provider, l.model, l.power_level, l.service, l.tokens_used, l.cost,
             l.success) as content
      from line as l
  ), hashed as materialized (
    select t.*, encode(sha256(convert_to(jsonb_build_array('import', p_source, t.user_id, t.key,
             case when t.key is null then jsonb_build_array(t.content, t.occurrence) end)::text, 'UTF8')), 'hex') as payload_hash
      from told as t
  ), judged as materialized (
    select h.*,
           case
             when num_nulls(h.line, h.user_id, h.event_time, h.tokens_used, h.cost) > 0 or not isfinite(h.event_time)
                  or h.tokens_used <> trunc(h.tokens_used) or h.tokens_used not between 0 and 1000000000000000
                  or h.cost not between 0 and 100000000000 or h.event_type !~ '^[a-z][a-z_.]{0,99}$'
                  or greatest(length(h.provider), length(h.model), length(h.power_level), length(h.service), length(h.key)) > 200
                  or octet_length(h.metadata::text) > 16384 then 'invalid_body'
             when e.content is distinct from h.content and e.id is not null then 'nonce_reused'
             when e.id is not null then 'known'
             when h.event_time > v_now + interval '10 minutes' then 'event_in_future'
           end as verdict
      from hashed as h
      left join lateral (
           select x.id, jsonb_build_array(x.event_type, x.created_at, x.provider, x.model, x.power_level, x.service, x.tokens_used,
                    x.cost, x.success) as content
             from public.usage_events as x
            where x.user_id = h.user_id and x.payload_hash = h.payload_hash
            limit 1) as e on true
  ), paired as materialized (
    -- The first of those that are one event within this call speaks for the others.
    select j.*, first_value(j.position) over same as first_position, j.content <> first_value(j.content) over same as differs
      from judged as j
    window same as (partition by j.user_id, j.payload_hash, j.verdict is null order by j.position)
  ), fresh as materialized (
    select p.* from paired as p where p.verdict is null and p.position = p.first_position order by p.event_time, p.position
  ), refused as (
    select p.line, coalesce(p.verdict, 'nonce_reused') as code, case p.verdict
             when 'invalid_body' then 'something is missing or out of range'
             when 'event_in_future' then format('event_time: %s lies in the future', p.event_time)
             else format('key: %s came with another event before', p.key) end as detail
      from paired as p
     where p.verdict <> 'known' or p.verdict is null and p.differs
  ), come as (
    select count(*) as imported, coalesce(sum(f.tokens_used), 0) as tokens, coalesce(sum(f.cost), 0) as cost,
           array_agg(row(
             f.user_id, internal.uuidv7(), f.event_type, f.service, f.provider, f.model, f.power_level, f.tokens_used, f.cost, f.success,
             f.metadata, null, null, null, p_source, f.payload_hash, f.event_time, v_now)::public.usage_events) as events
      from fresh as f
  ), gone as (
    select count(*) as refused, coalesce(jsonb_agg(to_jsonb(r) order by r.line), '[]') as refusals from refused as r
  )
  select jsonb_build_object('imported', c.imported, 'tokens', c.tokens, 'cost', internal.credits_json(c.cost),
           'known', jsonb_array_length(p_events) - c.imported - g.refused, 'refused', g.refusals), c.events
    into v_answer, v_events
    from come as c, gone as g;

  perform internal.record_usage(v_events);
  return v_answer;
end
$$;
