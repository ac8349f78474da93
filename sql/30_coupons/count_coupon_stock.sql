-- Begins to count what is sold of a template when it gets its first limit or budget, and remembers what was sold whenever
-- one of them changes. From then on whoever sells or refunds keeps the count.
--
-- Sales read the limit under the lock of the count's row, so a change of the limit waits for those that are under way. Where
-- there is no row yet, it is the table's lock that every sale takes which waits for them, and holds up the next ones for
-- as long as the coupons are counted and the transaction lasts.

create or replace function internal.count_coupon_stock()
returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
  if exists (select from public.coupon_stock as s where s.template_id = new.template_id) then
    update public.coupon_stock as s
       set issued_before = s.issued, points_before = s.points
     where s.template_id = new.template_id;
  elsif tg_op = 'INSERT' then
    insert into public.coupon_stock (template_id) values (new.template_id);
  else
    lock table public.coupon_stock in exclusive mode;
    insert into public.coupon_stock (template_id, issued, points, issued_before, points_before)
    select new.template_id, n.issued, n.points, n.issued, n.points
      from (select count(*) as issued, coalesce(sum(c.issued_points_cost), 0) as points
              from public.coupons as c
             where c.template_id = new.template_id and c.refunded_at is null) as n;
  end if;
  return null;
end
$$;

create or replace trigger coupon_templates_are_counted
after insert or update of max_redemptions, budget_points on public.coupon_templates
for each row
when (new.max_redemptions is not null or new.budget_points is not null)
execute function internal.count_coupon_stock();
