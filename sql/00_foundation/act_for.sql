-- Says for whom this transaction's procedure acts; row-level security then hides everybody else's rows from it.
-- A batch holds one request a book: no row is updated twice in one statement, and each sees what came before.

create or replace function internal.act_for(p_user_ids uuid[])
returns void
language plpgsql volatile
set search_path = ''
as $$
begin
  if array_position(p_user_ids, null) is not null or cardinality(p_user_ids) = 0 then
    raise exception 'a call acts for at least one user, each of them named';
  end if;
  if cardinality(p_user_ids) > 1 then
    if cardinality(p_user_ids) > (select count(distinct u.user_id) from unnest(p_user_ids) as u(user_id)) then
      raise exception 'a batch holds at most one request per book';
    end if;
  end if;
  -- A condition, because a statement for it would cost ten times as much.
  if set_config('tallybook.subjects', p_user_ids::text, true) is null then
    raise exception 'it is not known for whom the call acts';
  end if;
end
$$;
