-- What a member can redeem: {tenant_id, redemptions_paused, balance, rewards}, the cheapest first. A manager sees what is
-- not on offer too.
--
-- Locks:   none.
-- Refuses: forbidden, invalid_body.

create or replace function public.rewards_catalogue(p_user_id uuid, p_tenant_id uuid default null)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_member public.tenant_members := internal.membership(p_user_id, p_tenant_id);
begin
  return jsonb_build_object(
    'tenant_id', v_member.tenant_id,
    'redemptions_paused', (select t.redemptions_paused from public.tenants as t where t.id = v_member.tenant_id),
    'balance', internal.points_text(coalesce((
      select w.balance from public.wallets as w where w.tenant_id = v_member.tenant_id and w.user_id = p_user_id), 0)),
    'rewards', coalesce((
      select jsonb_agg(internal.reward_json(r) order by r.points_cost, r.name, r.id)
        from public.rewards as r
       where r.tenant_id = v_member.tenant_id
         and (r.is_active or v_member.role in ('tenant_manager', 'hr_admin'))), '[]'));
end
$$;
