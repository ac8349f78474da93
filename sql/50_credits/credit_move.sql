-- A movement of credits by the names of what is known of it; the rest is null.

create or replace function internal.credit_move(
  p_user_id          uuid,
  p_amount           numeric,
  p_transaction_type text,
  p_id               uuid default null,
  p_reason           text default null,
  p_provider         text default null,
  p_model            text default null,
  p_power_level      text default null,
  p_tokens_used      bigint default null,
  p_cost             numeric default null,
  p_metadata         jsonb default null,
  p_refund_of        uuid default null,
  p_idempotency_key  text default null,
  p_request_hash     text default null,
  p_actor            text default null,
  p_request_id       text default null,
  p_created_at       timestamptz default null,
  p_lot_id           uuid default null,
  p_source           text default null,
  p_priority         int default null,
  p_expires_at       timestamptz default null
)
returns internal.credit_movement
language plpgsql volatile
set search_path = ''
as $$
declare
  v_move internal.credit_movement;
begin
  v_move.user_id := p_user_id;
  v_move.id := coalesce(p_id, internal.uuidv7());
  v_move.amount := p_amount;
  v_move.transaction_type := p_transaction_type;
  v_move.reason := p_reason;
  v_move.provider := p_provider;
  v_move.model := p_model;
  v_move.power_level := p_power_level;
  v_move.tokens_used := p_tokens_used;
  v_move.cost := p_cost;
  v_move.metadata := p_metadata;
  v_move.refund_of := p_refund_of;
  v_move.idempotency_key := p_idempotency_key;
  v_move.request_hash := p_request_hash;
  v_move.actor := p_actor;
  v_move.request_id := p_request_id;
  v_move.created_at := coalesce(p_created_at, internal.clock());
  v_move.lot_id := p_lot_id;
  v_move.source := coalesce(p_source, p_transaction_type);
  v_move.priority := coalesce(p_priority, 100);
  v_move.expires_at := p_expires_at;
  return v_move;
end
$$;
