-- Takes a recognition back: what each recipient got goes from their wallet to where it came from, all of it or nothing.
-- Wallets are permanent unless the tenant's settings say otherwise: then its managers may revoke what brought points, else only
-- an administrator of the platform, or a program for one, who names the tenant. Praise without points its managers may always.
-- Returns {recognition_id, status, points, returned_to, reason, revoked_at}.
--
-- Replay:  what is revoked already is answered as it was, with "replayed".
-- Locks:   the recognition; then the accounts and the rows that tell of them.
-- Refuses: reason_required, invalid_body, invalid_amount, forbidden, recognition_not_found, not_reversible (wallets are
--          permanent, or one of them does not hold its part any more).

create or replace function public.revoke_recognition(
  p_user_id        uuid,
  p_recognition_id uuid,
  p_reason         text,
  p_tenant_id      uuid default null,
  p_actor          text default null,
  p_request_id     text default null
)
returns jsonb
language plpgsql volatile security definer
set search_path = ''
set timezone = 'UTC'
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
set jit = off
as $$
declare
  v_now timestamptz := internal.clock();
  v_reason text := trim(p_reason);
  v_tenant_id uuid := p_tenant_id;
  v_administers boolean;
  v_member public.tenant_members;
  v_actor text;
  v_given public.recognitions;
  v_moves internal.tenant_movement[];
  v_replayed boolean;
begin
  if coalesce(v_reason, '') !~ '\S' then
    perform internal.refuse('reason_required', 'reason: must say why');
  elsif length(v_reason) > 1000 then
    perform internal.refuse('invalid_body', 'reason: must have at most 1000 characters');
  end if;

  v_administers := p_user_id is null or p_tenant_id is not null and exists (
    select from public.system_admins as s where s.id = p_user_id and s.is_active);
  if v_administers then
    if p_tenant_id is null then
      perform internal.refuse('invalid_body', 'tenant_id: must be named');
    end if;
    v_actor := internal.actor(p_user_id, p_actor);
    perform internal.act_for(array[p_tenant_id]);
  else
    v_member := internal.membership(p_user_id, p_tenant_id);
    if v_member.role <> 'tenant_manager' then
      perform internal.refuse('forbidden', 'This is open to the tenant''s managers only.');
    end if;
    v_tenant_id := v_member.tenant_id;
    v_actor := p_user_id::text;
  end if;

  select r.* into v_given from public.recognitions as r where r.tenant_id = v_tenant_id and r.id = p_recognition_id for update;
  if v_given.id is null then
    perform internal.refuse('recognition_not_found');
  end if;
  v_replayed := v_given.status = 'revoked';
  if not v_replayed then
    if v_given.points > 0 and not v_administers and (select t.wallets_permanent from public.tenants as t where t.id = v_tenant_id) then
      perform internal.refuse('not_reversible', 'Wallets are permanent here: an administrator of the platform must revoke this.');
    end if;

    v_moves := array(
      select internal.tenant_move(
               v_tenant_id, 'tenant.wallet:' || r.user_id,
               case v_given.funded_by when 'pool' then 'tenant.pool'
                                      when 'budget' then 'tenant.budget:' || v_given.department_id
                                      else 'tenant.' || v_given.funded_by || ':' || v_given.from_user_id end,
               r.points, 'reversal', 'recognition', v_given.id, p_wallet_source => 'reversal', p_description => v_reason,
               p_created_by => p_user_id)
        from public.recognition_recipients as r
       where r.tenant_id = v_tenant_id and r.recognition_id = v_given.id and r.points > 0
       order by r.place);
    if cardinality(v_moves) > 0 then
      begin
        if exists (select from internal.move_tenant_points(v_moves) as o where o.outcome <> 'posted') then
          perform internal.refuse('not_reversible', 'A wallet does not hold these points any more.');
        end if;
      exception when numeric_value_out_of_range then
        perform internal.refuse('invalid_amount', 'recognition_id: where its points came from there is no room for them');
      end;
      -- What comes back to the pool returns to the lots that it was of, and some may have ended meanwhile.
      update public.tenants as t set allocations_due_at = v_now
       where v_given.funded_by = 'pool' and t.id = v_tenant_id;
    end if;

    update public.recognitions as r
       set status = 'revoked', revoked_at = v_now, revoked_by = v_actor, revoked_reason = v_reason, updated_at = v_now
     where r.tenant_id = v_tenant_id and r.id = v_given.id
    returning r.* into v_given;
    perform internal.audit(v_actor, 'revoke_recognition', 'recognition', v_given.id::text, v_reason,
      '{"status": "active"}', jsonb_build_object('status', 'revoked', 'tenant_id', v_tenant_id, 'points', v_given.points), p_request_id);
  end if;

  return jsonb_build_object(
    'recognition_id', v_given.id, 'status', v_given.status, 'points', internal.points_text(v_given.points),
    'returned_to', v_given.funded_by, 'reason', v_given.revoked_reason, 'revoked_at', v_given.revoked_at)
    || case when v_replayed then '{"replayed": true}' else '{}' end::jsonb;
end
$$;
