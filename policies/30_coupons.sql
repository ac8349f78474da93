-- Coupons: everybody signed in sees what is on offer, a user reads their own coupons, the procedures issue. At a partner's
-- till a procedure sees the one coupon whose code is shown.

revoke all on
  public.coupon_templates, public.coupon_stock, public.coupons, public.partner_members, public.coupon_throttles, public.coupon_attempts,
  internal.coupon_discrepancies, internal.coupon_guessing
from public, anon, authenticated, service_role;

grant select on public.coupon_templates, public.coupons to authenticated, service_role, tallybook_procedures, tallybook_upkeep;
grant insert, update on public.coupons to tallybook_procedures, tallybook_upkeep;
grant select, insert, update on public.coupon_templates to tallybook_operator;
grant select, update on public.coupons to tallybook_operator;
grant select on public.coupon_stock to service_role, tallybook_operator;
grant select, update on public.coupon_stock to tallybook_procedures;
grant select, insert, update on public.coupon_stock to tallybook_upkeep;
grant select on public.partner_members to service_role, tallybook_procedures;
grant select, insert, update, delete on public.partner_members, public.coupon_throttles to tallybook_operator;
grant select on public.coupon_throttles to service_role, tallybook_procedures, tallybook_upkeep;
grant select, insert, update on public.coupon_attempts to tallybook_procedures;
grant select, update, delete on public.coupon_attempts to tallybook_upkeep;
grant select, delete on public.coupon_attempts to tallybook_operator;
grant select on internal.coupon_discrepancies to tallybook_operator;
grant select on internal.coupon_guessing to tallybook_upkeep, tallybook_operator;

alter table public.coupon_templates enable row level security;
alter table public.coupon_stock     enable row level security;
alter table public.coupons          enable row level security;
alter table public.partner_members  enable row level security;
alter table public.coupon_throttles enable row level security;
alter table public.coupon_attempts  enable row level security;
alter table public.coupon_templates force row level security;
alter table public.coupon_stock     force row level security;
alter table public.coupons          force row level security;
alter table public.partner_members  force row level security;
alter table public.coupon_throttles force row level security;
alter table public.coupon_attempts  force row level security;

drop policy if exists "everybody signed in sees the coupons on offer" on public.coupon_templates;
create policy "everybody signed in sees the coupons on offer" on public.coupon_templates for select to authenticated
  using (is_active);
drop policy if exists "the service and the procedures see every template" on public.coupon_templates;
create policy "the service and the procedures see every template" on public.coupon_templates for select
  to service_role, tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sets what is on offer" on public.coupon_templates;
create policy "an operator sets what is on offer" on public.coupon_templates to tallybook_operator using (true);

drop policy if exists "the procedures count what is sold" on public.coupon_stock;
create policy "the procedures count what is sold" on public.coupon_stock to tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "the service and operators see the stock" on public.coupon_stock;
create policy "the service and operators see the stock" on public.coupon_stock for select to service_role, tallybook_operator using (true);

drop policy if exists "a user reads their own coupons" on public.coupons;
create policy "a user reads their own coupons" on public.coupons for select to authenticated
  using (issued_to = (select internal.caller_id()));
drop policy if exists "the service reads every coupon" on public.coupons;
create policy "the service reads every coupon" on public.coupons for select to service_role using (true);
-- One policy for each command: of two permissive ones Postgres would evaluate both for every row.
drop policy if exists "a procedure sees its subjects' coupons and those shown" on public.coupons;
create policy "a procedure sees its subjects' coupons and those shown" on public.coupons for select
  to tallybook_procedures
  using (issued_to = any ((select internal.subjects())::uuid[]) or code_hash = any ((select internal.shown_codes())::text[]));
drop policy if exists "a procedure uses its subjects' coupons and those shown" on public.coupons;
create policy "a procedure uses its subjects' coupons and those shown" on public.coupons for update
  to tallybook_procedures
  using (issued_to = any ((select internal.subjects())::uuid[]) or code_hash = any ((select internal.shown_codes())::text[]));
drop policy if exists "a procedure issues coupons to its subjects" on public.coupons;
create policy "a procedure issues coupons to its subjects" on public.coupons for insert to tallybook_procedures
  with check (issued_to = any ((select internal.subjects())::uuid[]));
drop policy if exists "upkeep and operators see every coupon" on public.coupons;
create policy "upkeep and operators see every coupon" on public.coupons to tallybook_upkeep, tallybook_operator using (true);

drop policy if exists "a procedure sees where its subjects are members" on public.partner_members;
create policy "a procedure sees where its subjects are members" on public.partner_members for select to tallybook_procedures
  using (user_id = any ((select internal.subjects())::uuid[]));
drop policy if exists "the service reads the partners' members" on public.partner_members;
create policy "the service reads the partners' members" on public.partner_members for select to service_role using (true);
drop policy if exists "an operator appoints the partners' members" on public.partner_members;
create policy "an operator appoints the partners' members" on public.partner_members to tallybook_operator using (true);

drop policy if exists "the service and the procedures read the throttles" on public.coupon_throttles;
create policy "the service and the procedures read the throttles" on public.coupon_throttles for select
  to service_role, tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sets the throttles of codes" on public.coupon_throttles;
create policy "an operator sets the throttles of codes" on public.coupon_throttles to tallybook_operator using (true);
drop policy if exists "the procedures count the wrong codes" on public.coupon_attempts;
create policy "the procedures count the wrong codes" on public.coupon_attempts to tallybook_procedures, tallybook_upkeep using (true);
drop policy if exists "an operator sees and lifts a throttle" on public.coupon_attempts;
create policy "an operator sees and lifts a throttle" on public.coupon_attempts to tallybook_operator using (true);

-- Nobody calls these by themselves: triggers do, and policies, and the procedures below.
revoke all on function
  internal.touch_coupon_template(), internal.count_coupon_stock(), internal.guard_coupon(), internal.apply_coupon_refund(),
  internal.show_codes(text[]), internal.shown_codes(), internal.show_coupon(uuid, text[], boolean),
  internal.coupon_guessers(uuid, inet, text), internal.throttle_coupon_codes(uuid, inet, text), internal.coupon_code_failed(uuid, inet, text),
  internal.refund_coupon_points(public.coupons, text, text, text)
from public, anon, authenticated, service_role;

alter function internal.count_coupon_stock() owner to tallybook_upkeep;
alter function internal.apply_coupon_refund() owner to tallybook_upkeep;

grant execute on function
  internal.show_codes(text[]), internal.shown_codes(), internal.show_coupon(uuid, text[], boolean),
  internal.coupon_guessers(uuid, inet, text), internal.throttle_coupon_codes(uuid, inet, text), internal.coupon_code_failed(uuid, inet, text)
to tallybook_procedures;
grant execute on function internal.refund_coupon_points(public.coupons, text, text, text) to tallybook_upkeep;

-- Buying, for the user; then verifying, holding and consuming, for whoever shows a code.
revoke all on function
  internal.redeem_coupon_batch(jsonb), public.redeem_coupon(uuid, uuid, text, text, text, text, text),
  public.verify_coupon(uuid, text[], inet, text), public.consume_coupon(uuid, text[], text, jsonb, inet, text, text),
  public.hold_coupon(uuid, text[], text, int, inet, text, text), public.release_coupon(uuid, text[], text, inet, text, text)
from public, anon, authenticated, service_role;

alter function internal.redeem_coupon_batch(jsonb) owner to tallybook_procedures;
alter function public.redeem_coupon(uuid, uuid, text, text, text, text, text) owner to tallybook_procedures;
alter function public.verify_coupon(uuid, text[], inet, text) owner to tallybook_procedures;
alter function public.consume_coupon(uuid, text[], text, jsonb, inet, text, text) owner to tallybook_procedures;
alter function public.hold_coupon(uuid, text[], text, int, inet, text, text) owner to tallybook_procedures;
alter function public.release_coupon(uuid, text[], text, inet, text, text) owner to tallybook_procedures;

grant execute on function internal.redeem_coupon_batch(jsonb) to tallybook_functions;
grant execute on function
  public.redeem_coupon(uuid, uuid, text, text, text, text, text),
  public.verify_coupon(uuid, text[], inet, text), public.consume_coupon(uuid, text[], text, jsonb, inet, text, text),
  public.hold_coupon(uuid, text[], text, int, inet, text, text), public.release_coupon(uuid, text[], text, inet, text, text)
to tallybook_functions, service_role;

-- Revoking and refunding, for administrators; and the upkeep.
revoke all on function
  public.revoke_coupon(uuid, uuid, text, boolean, text, text), public.refund_coupon(uuid, uuid, text, text, text),
  public.mark_expired_coupons(int), public.forget_sealed_codes(int), public.cleanup_coupon_attempts(int)
from public, anon, authenticated, service_role;

alter function public.revoke_coupon(uuid, uuid, text, boolean, text, text) owner to tallybook_upkeep;
alter function public.refund_coupon(uuid, uuid, text, text, text) owner to tallybook_upkeep;
alter function public.mark_expired_coupons(int) owner to tallybook_upkeep;
alter function public.forget_sealed_codes(int) owner to tallybook_upkeep;
alter function public.cleanup_coupon_attempts(int) owner to tallybook_upkeep;

grant execute on function public.revoke_coupon(uuid, uuid, text, boolean, text, text), public.refund_coupon(uuid, uuid, text, text, text)
to tallybook_functions, service_role, tallybook_operator;
grant execute on function public.mark_expired_coupons(int), public.forget_sealed_codes(int), public.cleanup_coupon_attempts(int)
to service_role, tallybook_worker, tallybook_operator;

-- An operator takes a coupon by its code where a partner's till cannot.
grant execute on function public.verify_coupon(uuid, text[], inet, text), public.consume_coupon(uuid, text[], text, jsonb, inet, text, text)
to tallybook_operator;
