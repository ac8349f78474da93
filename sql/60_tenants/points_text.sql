-- An amount of points as the tenants' addresses write it: a decimal text with no places that say nothing ('50000', '49000.5').

create or replace function internal.points_text(p_points numeric)
returns text
language plpgsql immutable
set search_path = ''
as $$
begin
  return trim_scale(p_points)::text;
end
$$;
