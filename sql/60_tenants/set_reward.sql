-- Puts a reward on offer, or changes one: what is null stays as it is. `stock` is how many there are now; `unlimited` takes
-- the end from it. Its tenant's managers', an administrator's or a program's. Returns the reward and its tenant_id.
--
-- Replay:  a change made twice is one; without an id there is a new reward every time.
-- Locks:   the reward's row.
-- Refuses: forbidden, invalid_body, invalid_amount, tenant_not_found, reward_not_found.

create or replace function public.set_reward(
  p_user_id     uuid,
  p_reward_id   uuid default null,
  p_name        text default null,
  p_points_cost numeric default null,
  p_description text default null,
  p_stock       int default null,
  p_unlimited   boolean default false,
  p_is_active   boolean default null,
  p_tenant_id   uuid default null,
  p_reason      text default null,
  p_actor       text default null,
  p_request_id  text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  v_who record := internal.managing(p_user_id, p_tenant_id, p_actor);
  v_before public.rewards;
  v_after public.rewards;
begin
  if p_points_cost <= 0 or p_points_cost > 9999999999999.99 or scale(trim_scale(p_points_cost)) > 2 then
    perform internal.refuse('invalid_amount', 'points_cost: must be greater than zero, with at most two decimal places');
  elsif p_stock < 0 then
    perform internal.refuse('invalid_amount', 'stock: must not be below zero');
  elsif p_unlimited and p_stock is not null then
    perform internal.refuse('invalid_body', 'stock: what is unlimited has none');
  elsif p_name !~ '\S' or p_reward_id is null and p_name is null then
    perform internal.refuse('invalid_body', 'name: must be a name');
  elsif p_reward_id is null and p_points_cost is null then
    perform internal.refuse('invalid_body', 'points_cost: must say what it costs');
  end if;

  if p_reward_id is null then
    insert into public.rewards as r (tenant_id, name, description, points_cost, stock, is_active)
    values (v_who.tenant_id, p_name, p_description, p_points_cost, p_stock, coalesce(p_is_active, true))
    returning r.* into v_after;
  else
    select r.* into v_before from public.rewards as r where r.tenant_id = v_who.tenant_id and r.id = p_reward_id for update;
    if v_before.id is null then
      perform internal.refuse('reward_not_found', format('reward_id: %s', p_reward_id));
    end if;
    update public.rewards as r
       set name        = coalesce(p_name, r.name),
           description = coalesce(p_description, r.description),
           points_cost = coalesce(p_points_cost, r.points_cost),
           stock       = case when not coalesce(p_unlimited, false) then coalesce(p_stock, r.stock) end,
           is_active   = coalesce(p_is_active, r.is_active),
           updated_at  = internal.clock()
     where r.tenant_id = v_who.tenant_id and r.id = p_reward_id
    returning r.* into v_after;
  end if;
  perform internal.audit(
    v_who.actor, 'reward.set', 'reward', v_after.id::text, p_reason,
    case when v_before.id is not null then internal.reward_json(v_before) end,
    internal.reward_json(v_after) || jsonb_build_object('tenant_id', v_who.tenant_id), p_request_id);
  return internal.reward_json(v_after) || jsonb_build_object('tenant_id', v_who.tenant_id);
end
$$;
