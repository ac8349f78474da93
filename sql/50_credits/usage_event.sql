-- A use of a model by the names of what is known of it; the rest is null or nothing.

create or replace function internal.usage_event(
  p_user_id         uuid,
  p_cost            numeric default 0,
  p_tokens_used     bigint default 0,
  p_provider        text default null,
  p_model           text default null,
  p_power_level     text default null,
  p_service         text default null,
  p_success         boolean default true,
  p_metadata        jsonb default null,
  p_tier            text default null,
  p_pricing_version int default null,
  p_transaction_id  uuid default null,
  p_event_type      text default 'usage',
  p_source          text default null,
  p_payload_hash    text default null,
  p_created_at      timestamptz default null
)
returns public.usage_events
language plpgsql volatile
set search_path = ''
as $$
declare
  v_event public.usage_events;
begin
  v_event.user_id := p_user_id;
  v_event.id := internal.uuidv7();
  v_event.event_type := p_event_type;
  v_event.service := p_service;
  v_event.provider := p_provider;
  v_event.model := p_model;
  v_event.power_level := p_power_level;
  v_event.tokens_used := coalesce(p_tokens_used, 0);
  v_event.cost := p_cost;
  v_event.success := p_success;
  v_event.metadata := p_metadata;
  v_event.tier := p_tier;
  v_event.pricing_version := p_pricing_version;
  v_event.transaction_id := p_transaction_id;
  v_event.source := p_source;
  v_event.payload_hash := p_payload_hash;
  v_event.created_at := coalesce(p_created_at, internal.clock());
  return v_event;
end
$$;
