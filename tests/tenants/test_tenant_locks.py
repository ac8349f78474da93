"""Procedures of one tenant, and gathered requests of several, never wait in a circle."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import psycopg

from tests.tenants.company import Company
from tests.world import Connection, Outcome, World

HOLD = "select from ledger.accounts where book_id = %s and account = %s for update"


def recognition(giver: UUID, recipient: UUID, **more: Any) -> dict[str, Any]:
    return {
        "user_id": str(giver),
        "recipients": [str(recipient)],
        "points": 10,
        "message": "Well done",
        **more,
    }


def giving(requests: list[dict[str, Any]]) -> Callable[[Connection], list[Outcome]]:
    """One gathered call."""

    def call(session: Connection) -> list[Outcome]:
        rows = session.execute(
            "select * from internal.give_recognition_batch(%s::jsonb) order by position",
            (json.dumps(requests),),
        ).fetchall()
        return [Outcome(**row) for row in rows]

    return call


def behind(world: World, holder: Connection, *calls: Callable[[Connection], Any]) -> list[Any]:
    """What becomes of calls that come, one after the other, while somebody holds what they need."""
    sessions = [world.session("tallybook_functions") for _ in calls]
    with ThreadPoolExecutor(len(calls)) as threads:
        futures = []
        for call, session in zip(calls, sessions, strict=True):
            future = threads.submit(call, session)
            futures.append(future)
            world.until_blocked(session.info.backend_pid, future)
        holder.commit()
        return [future.exception() or future.result() for future in futures]


def test_who_is_given_points_while_they_give_some_under_one_cap(company: Company) -> None:
    tenant, world = company.tenant(1000), company.world
    department = company.department(tenant, monthly_cap=1000)
    lead = company.member(tenant, "dept_lead", department_id=department)
    member = company.member(tenant, department_id=department)
    other = company.member(tenant)
    company.enrich(tenant, member, 50)

    holder = world.session(autocommit=False)
    holder.execute("select from departments where id = %s for update", (department,))
    answers = behind(
        world, holder, giving([recognition(lead, member)]), giving([recognition(member, other)])
    )
    assert [a for a in answers if isinstance(a, psycopg.Error)] == []
    assert (company.wallet(tenant, member), company.wallet(tenant, other)) == ("50", "10")


def test_gathered_requests_of_two_tenants(company: Company) -> None:
    world = company.world
    first, second = sorted(company.tenant(1000) for _ in range(2))
    managers = {t: company.member(t, "tenant_manager") for t in (first, second)}
    giver, taker = (company.member(second, user_id=u) for u in sorted(uuid4() for _ in range(2)))
    member, friend = company.member(first), company.member(first)
    for tenant, user in ((first, member), (first, friend), (second, giver), (second, taker)):
        company.enrich(tenant, user, 50)

    holder = world.session(autocommit=False)
    holder.execute(HOLD, (second, f"tenant.wallet:{taker}"))
    asked = [
        [recognition(managers[first], member), recognition(giver, taker)],
        [recognition(member, friend), recognition(managers[second], giver)],
    ]
    answers = behind(world, holder, *map(giving, asked))
    assert [a for a in answers if isinstance(a, psycopg.Error)] == []
    assert company.wallet(first, member) == company.wallet(second, giver) == "50"


def test_gathered_awards_of_two_tenants_while_a_member_gives(company: Company) -> None:
    """Where pools alone pay, the wallets that are reached have their place in the order too."""
    world = company.world
    first, second = sorted(company.tenant(1000) for _ in range(2))
    managers = [company.member(t, "tenant_manager") for t in (first, second, second)]
    member, friend, other = (company.member(t) for t in (first, first, second))
    for tenant, user in ((first, member), (first, friend), (second, other)):
        company.enrich(tenant, user, 50)

    holder = world.session(autocommit=False)
    holder.execute(HOLD, (second, "tenant.pool"))
    asked = [
        [recognition(managers[0], member), recognition(managers[1], other)],
        [recognition(member, friend), recognition(managers[2], other)],
    ]
    answers = behind(world, holder, *map(giving, asked))
    assert [a for a in answers if isinstance(a, psycopg.Error)] == []
    assert company.wallet(first, member) == "50"
    assert company.wallet(first, friend) == "60"
    assert company.wallet(second, other) == "70"


def test_who_gives_what_came_into_a_first_wallet_meanwhile(company: Company) -> None:
    """A wallet without an account cannot be locked; what came into it has to be read."""
    tenant, world = company.tenant(1000), company.world
    manager, member, friend = (
        company.member(tenant, role) for role in ("tenant_manager", "employee", "employee")
    )

    holder = world.session(autocommit=False)
    holder.execute(HOLD, (tenant, "tenant.pool"))
    asked = [recognition(manager, member, points="0.01"), recognition(member, friend)]
    with world.in_background(giving(asked), world.session("tallybook_functions")) as given:
        company.enrich(tenant, member, 50)
        holder.commit()
        assert [outcome.refusal for outcome in given.result()] == [None, None]
    assert (company.wallet(tenant, member), company.wallet(tenant, friend)) == ("40.01", "10")


def test_who_is_credited_while_they_award_of_their_own(company: Company) -> None:
    """A lead whose wallet may pay as well, and whose member's row tells of their budget."""
    tenant, world = company.tenant(1000, allocation_mode="legacy_fallback"), company.world
    lead, member = (
        company.member(tenant, role, user_id=user)
        for role, user in zip(("dept_lead", "employee"), sorted([uuid4(), uuid4()]), strict=True)
    )
    company.lend(tenant, lead, 100)
    company.enrich(tenant, lead, 50)
    company.enrich(tenant, member, 50)

    holder = world.session(autocommit=False)
    holder.execute(HOLD, (tenant, f"tenant.wallet:{member}"))
    credit = {
        "user_id": None, "tenant_id": tenant, "to_user_id": lead, "amount": D(5),
        "source": "adjustment", "reason": "Missing",
    }  # fmt: skip
    answers = behind(
        world,
        holder,
        giving([recognition(lead, member)]),
        lambda session: company.call("credit_wallet", session, **credit),
    )
    assert [a for a in answers if isinstance(a, psycopg.Error)] == []
    assert (company.wallet(tenant, lead), company.lead_budget(tenant, lead)) == ("55", "90")


def test_who_is_delegated_to_first_while_they_award_already(company: Company) -> None:
    """The account of a lead comes before the pool, also where it is only being made."""
    tenant, world = company.tenant(1000), company.world
    manager, lead = company.member(tenant, "tenant_manager"), company.member(tenant, "dept_lead")
    member = company.member(tenant)

    def delegate(session: Connection) -> Any:
        return company.delegate(manager, lead, 10, through=session)

    first = world.session("tallybook_functions", autocommit=False)
    delegate(first)
    with world.in_background(delegate, world.session("tallybook_functions")) as second:
        # The second waits for the lead's account, and so holds no pool.
        assert not world.rows(
            "select from pg_locks as l join pg_stat_activity as a using (pid)"
            " where a.wait_event_type = 'Lock' and l.granted and l.locktype = 'relation'"
            " and l.mode = 'RowShareLock' and l.relation = 'ledger.accounts'::regclass"
        )
        first.commit()
        assert second.result()["lead_new_balance"] == "20"
    answer = company.call(
        "award_to_user", user_id=lead, to_user_id=member, amount=5, recognition_message="Well done"
    )
    assert answer["funded_by"] == "lead"


def test_a_key_is_waited_for_where_no_points_are_given(company: Company) -> None:
    """Nothing else is locked then. A member's key is their own, and the system's the tenant's."""
    tenant, world = company.tenant(), company.world
    giver, member = company.member(tenant), company.member(tenant)
    for who in (str(giver), None):
        request = recognition(giver, member, points=0, tenant_id=str(tenant), idempotency_key="k")
        call = giving([{**request, "user_id": who}])
        first = world.session("tallybook_functions", autocommit=False)
        (one,) = call(first)
        with world.in_background(call, world.session("tallybook_functions")) as second:
            first.commit()
            (other,) = second.result()
        assert one.answer and other.answer == {**one.answer, "replayed": True}
    assert world.count("recognitions") == 2


def test_keys_are_taken_in_one_order_whoever_comes_first_in_the_call(company: Company) -> None:
    tenant, world = company.tenant(), company.world
    member, *givers = (company.member(tenant) for _ in range(9))
    holder = world.session(autocommit=False)
    holder.execute("select pg_advisory_xact_lock(hashtextextended(%s, 60))", (str(givers[4]),))
    requests = [recognition(g, member, points=0, idempotency_key="k") for g in givers]
    answers = behind(world, holder, giving(requests), giving(requests[::-1]))
    assert [a for a in answers if isinstance(a, psycopg.Error)] == []
    assert world.count("recognitions") == len(givers)


def test_what_is_recalled_meanwhile_pays_no_more(company: Company) -> None:
    tenant, world = company.tenant(100), company.world
    manager, lead = company.member(tenant, "tenant_manager"), company.member(tenant, "dept_lead")
    member = company.member(tenant)
    company.delegate(manager, lead, 50)
    first = world.session("tallybook_functions", autocommit=False)
    company.call("recall_from_lead", first, user_id=manager, lead_user_id=lead, amount=D(45))
    requests = [recognition(lead, member)]
    with world.in_background(giving(requests), world.session("tallybook_functions")) as second:
        first.commit()
        (given,) = second.result()
    assert given.answer and given.answer["funded_by"] == "pool"
    assert (company.lead_budget(tenant, lead), company.pool(tenant)) == ("5", "85")


def test_members_who_give_to_one_another_from_their_wallets(company: Company) -> None:
    tenant, world = company.tenant(), company.world
    one, other, third = (company.member(tenant, user_id=u) for u in sorted(uuid4() for _ in "abc"))
    for user in (one, other, third):
        company.enrich(tenant, user, 50)

    holder = world.session(autocommit=False)
    holder.execute(HOLD, (tenant, f"tenant.wallet:{third}"))
    asked = [[recognition(one, other), recognition(third, one)], [recognition(other, one)]]
    answers = behind(world, holder, *map(giving, asked))
    assert [a for a in answers if isinstance(a, psycopg.Error)] == []
    assert [company.wallet(tenant, user) for user in (one, other, third)] == ["60", "50", "40"]


def test_tenants_are_locked_in_their_order_and_not_in_that_of_arrival(company: Company) -> None:
    world = company.world
    first, second = sorted(company.tenant(100) for _ in range(2))
    requests = [
        recognition(company.member(t, "tenant_manager"), company.member(t)) for t in (second, first)
    ]
    holder = world.session(autocommit=False)
    holder.execute(HOLD, (first, "tenant.pool"))
    with world.in_background(giving(requests), world.session("tallybook_functions")) as given:
        # It waits for the first and has not taken the second.
        world.admin.execute(f"{HOLD} nowait", (second, "tenant.pool"))
        holder.commit()
        assert [outcome.refusal for outcome in given.result()] == [None, None]
