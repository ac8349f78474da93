-- A movement of a tenant's points by the names of what is known of it.

create or replace function internal.tenant_move(
  p_tenant_id     uuid,
  p_from_account  text,
  p_to_account    text,
  p_amount        numeric,
  p_kind          text,
  p_source_type   text,
  p_source_id     uuid,
  p_id            uuid default null,
  p_wallet_source text default null,
  p_description   text default null,
  p_created_by    uuid default null,
  p_created_at    timestamptz default null
)
returns internal.tenant_movement
language plpgsql volatile
set search_path = ''
as $$
declare
  v_move internal.tenant_movement;
begin
  v_move.tenant_id := p_tenant_id;
  v_move.id := coalesce(p_id, internal.uuidv7());
  v_move.from_account := p_from_account;
  v_move.to_account := p_to_account;
  v_move.amount := p_amount;
  v_move.kind := p_kind;
  v_move.source_type := p_source_type;
  v_move.source_id := p_source_id;
  v_move.wallet_source := p_wallet_source;
  v_move.description := p_description;
  v_move.created_by := p_created_by;
  v_move.created_at := coalesce(p_created_at, internal.clock());
  return v_move;
end
$$;
