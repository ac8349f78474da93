-- Says when a template last changed, so that what was sold under other terms can be told apart.

create or replace function internal.touch_coupon_template()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.updated_at := internal.clock();
  return new;
end
$$;

create or replace trigger coupon_templates_are_dated
before update on public.coupon_templates
for each row execute function internal.touch_coupon_template();
