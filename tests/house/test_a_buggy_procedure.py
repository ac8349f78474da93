"""A procedure that forgets its `where` clause sees and changes its caller's rows only."""

from __future__ import annotations

from uuid import UUID, uuid4

import psycopg
import pytest

from tests.conftest import Database

# Written as a tired person might: the right owner and first line, and no where clause at all.
COUNTING = """
create function public.count_my_things(p_user_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  perform internal.act_for(array[p_user_id]);
  return jsonb_build_object(
    'points_events', (select jsonb_agg(distinct e.user_id) from public.points_events as e),
    'user_points_cache', (select jsonb_agg(distinct c.user_id) from public.user_points_cache as c),
    'used_nonces', (select jsonb_agg(distinct n.user_id) from public.used_nonces as n),
    'coupons', (select jsonb_agg(distinct c.issued_to) from public.coupons as c),
    'accounts', (select jsonb_agg(distinct a.book_id) from ledger.accounts as a),
    'transfers', (select jsonb_agg(distinct t.book_id) from ledger.transfers as t),
    'holds', (select jsonb_agg(distinct h.book_id) from ledger.holds as h));
end $$
"""

CHANGING = """
create function public.empty_my_purse(p_user_id uuid) returns int
language plpgsql security definer set search_path = '' as $$
declare v_rows int;
begin
  perform internal.act_for(array[p_user_id]);
  update public.user_points_cache set pending_points = 0;
  get diagnostics v_rows = row_count;
  return v_rows;
end $$
"""

FORGETFUL = """
create function public.act_for_nobody() returns bigint
language plpgsql security definer set search_path = '' as $$
begin
  return (select count(*) from public.points_events) + (select count(*) from ledger.accounts);
end $$
"""

STEALING = """
create function public.write_for_another(p_user_id uuid, p_other uuid) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform internal.act_for(array[p_user_id]);
  insert into public.user_points_cache (user_id) values (p_other);
end $$
"""


@pytest.fixture
def users(database: Database) -> list[UUID]:
    """Three users with a row in every table."""
    users = [uuid4(), uuid4(), uuid4()]
    functions = database.connect("tallybook_functions")
    admin = database.connect()
    template = admin.execute(
        "insert into public.coupon_templates (template_name, points_cost, coupon_value_type,"
        " coupon_value) values ('A coffee', 5, 'product', 'coffee') returning template_id"
    ).fetchone()
    assert template is not None
    for user in users:
        functions.execute(
            "select public.submit_points_event(%s, 'workout', now(), 'n-0123456789')", (user,)
        )
    functions.execute("select public.validate_points_events()")
    for number, user in enumerate(users):
        functions.execute(
            "select public.redeem_coupon(%s, %s, 'k-0123456789', %s, '1', 'sealed')",
            (user, template[0], f"{number:064x}"),
        )
        admin.execute(
            "insert into ledger.holds (book_id, hold_id, account, amount, status, source_type,"
            " source_id, expires_at, closed_at) values (%s, gen_random_uuid(), 'points', 1,"
            " 'released', 'test', gen_random_uuid(), now(), now())",
            (user,),
        )
    return users


def with_procedure(database: Database, definition: str) -> psycopg.Connection[object]:
    """A login of the functions that may call a procedure made from `definition`."""
    admin = database.connect()
    admin.execute(definition.encode())
    name = definition.split("(", maxsplit=1)[0].split()[-1]
    admin.execute("grant create on schema public to tallybook_procedures")
    admin.execute(f"alter function {name} owner to tallybook_procedures".encode())
    admin.execute("revoke create on schema public from tallybook_procedures")
    admin.execute(f"grant execute on function {name} to tallybook_functions".encode())
    return database.connect("tallybook_functions")


def test_it_sees_its_callers_rows_only(database: Database, users: list[UUID]) -> None:
    row = (
        with_procedure(database, COUNTING)
        .execute("select public.count_my_things(%s)", (users[0],))
        .fetchone()
    )
    assert row is not None
    assert len(row[0]) == 7  # type: ignore[index]
    assert {name: seen for name, seen in row[0].items() if seen != [str(users[0])]} == {}  # type: ignore[index]


def test_it_changes_its_callers_rows_only(database: Database, users: list[UUID]) -> None:
    buggy = with_procedure(database, CHANGING)
    assert buggy.execute("select public.empty_my_purse(%s)", (users[0],)).fetchone() == (1,)


@pytest.mark.usefixtures("users")
def test_without_a_subject_it_sees_nothing(database: Database) -> None:
    buggy = with_procedure(database, FORGETFUL)
    assert buggy.execute("select public.act_for_nobody()").fetchone() == (0,)


def test_subjects_end_with_the_transaction(database: Database, users: list[UUID]) -> None:
    """A connection of the pool carries nobody over to its next call."""
    with_procedure(database, COUNTING)
    forgetful = with_procedure(database, FORGETFUL)
    forgetful.execute("select public.count_my_things(%s)", (users[0],))
    assert forgetful.execute("select public.act_for_nobody()").fetchone() == (0,)


def test_it_cannot_write_for_somebody_else(database: Database, users: list[UUID]) -> None:
    buggy = with_procedure(database, STEALING)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        buggy.execute("select public.write_for_another(%s, %s)", (users[0], uuid4()))
