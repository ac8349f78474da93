-- Coupons: everybody signed in sees what is on offer, a user reads their own coupons, the procedures issue.

revoke all on public.coupon_templates, public.coupons, internal.coupon_discrepancies
from public, anon, authenticated, service_role;

grant select on public.coupon_templates, public.coupons to authenticated, service_role, tallybook_procedures, tallybook_upkeep;
grant insert, update on public.coupons to tallybook_procedures, tallybook_upkeep;
grant select, insert, update on public.coupon_templates to tallybook_operator;
grant select, update on public.coupons to tallybook_operator;
grant select on internal.coupon_discrepancies to tallybook_operator;

alter table public.coupon_templates enable row level security;
alter table public.coupons          enable row level security;
alter table public.coupon_templates force row level security;
alter table public.coupons          force row level security;

drop policy if exists "everybody signed in sees the coupons on offer" on public.coupon_templates;
create policy "everybody signed in sees the coupons on offer" on public.coupon_templates for select to authenticated
  using (is_active);
drop policy if exists "the service and the procedures see every template" on public.coupon_templates;
create policy "the service and the procedures see every template" on public.coupon_templates for select
  to service_role, tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sets what is on offer" on public.coupon_templates;
create policy "an operator sets what is on offer" on public.coupon_templates to tallybook_operator using (true);

drop policy if exists "a user reads their own coupons" on public.coupons;
create policy "a user reads their own coupons" on public.coupons for select to authenticated
  using (issued_to = (select internal.caller_id()));
drop policy if exists "the service reads every coupon" on public.coupons;
create policy "the service reads every coupon" on public.coupons for select to service_role using (true);
drop policy if exists "a procedure touches the coupons of its subjects" on public.coupons;
create policy "a procedure touches the coupons of its subjects" on public.coupons to tallybook_procedures
  using (issued_to = any ((select internal.subjects())::uuid[]));
drop policy if exists "upkeep and operators see every coupon" on public.coupons;
create policy "upkeep and operators see every coupon" on public.coupons to tallybook_upkeep, tallybook_operator using (true);

revoke all on function
  internal.redeem_coupon_batch(jsonb), public.redeem_coupon(uuid, uuid, text, text, text, text, text),
  internal.touch_coupon_template()
from public, anon, authenticated, service_role;

alter function internal.redeem_coupon_batch(jsonb) owner to tallybook_procedures;
alter function public.redeem_coupon(uuid, uuid, text, text, text, text, text) owner to tallybook_procedures;

grant execute on function internal.redeem_coupon_batch(jsonb) to tallybook_functions;
grant execute on function public.redeem_coupon(uuid, uuid, text, text, text, text, text) to tallybook_functions, service_role;
