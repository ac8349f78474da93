-- A reward as the addresses show it.

create or replace function internal.reward_json(p_reward public.rewards)
returns jsonb
language plpgsql stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'reward_id', p_reward.id, 'name', p_reward.name, 'description', p_reward.description,
    'points_cost', internal.points_text(p_reward.points_cost), 'stock', p_reward.stock, 'is_active', p_reward.is_active);
end
$$;
