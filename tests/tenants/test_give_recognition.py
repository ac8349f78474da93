"""Recognizing members, with points or without: it does, it replays, it refuses, it races."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.tenants.company import Company
from tests.world import Connection, code_of, refused

SHORT = "Insufficient company allocation pool. Available: {}, Required: {}"


def give(company: Company, giver: UUID, *recipients: UUID, **request: Any) -> Any:
    """Recognize these members, by default with 100 points each."""
    request = {"points": 100, "message": "Well done", **request}
    return company.call("give_recognition", user_id=giver, recipients=list(recipients), **request)


def asking(giver: UUID, *recipients: UUID, **request: Any) -> dict[str, Any]:
    """The same as one request of a batch."""
    return {
        "user_id": giver,
        "recipients": [str(recipient) for recipient in recipients],
        "points": 100,
        "message": "Well done",
        **request,
    }


def batch(company: Company, *requests: dict[str, Any]) -> list[Any]:
    """Each request's funding, or the code of its refusal."""
    outcomes = company.world.batch("internal.give_recognition_batch", requests, None)
    return [
        outcome.answer["funded_by"] if outcome.answer else (outcome.refusal or {})["code"]
        for outcome in outcomes
    ]


def test_points_go_from_the_pool_to_the_wallet(company: Company) -> None:
    tenant = company.tenant(50_000)
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    answer = give(company, manager, member, points=1000, message="Great work!")
    (recipient,) = answer.pop("recipients")
    entry = recipient.pop("ledger_entry_id")
    assert recipient == {"user_id": str(member), "points": "1000", "new_wallet_balance": "1000"}
    recognition = answer.pop("recognition_id")
    assert answer == {
        "points": "1000",
        "funded_by": "pool",
        "tenant_remaining_pool": "49000",
        "status": "active",
    }
    assert (company.pool(tenant), company.wallet(tenant, member)) == ("49000", "1000")
    assert company.statement(tenant, member) == [("recognition", "1000", "1000")]
    (row,) = company.world.rows("select * from wallet_ledger where user_id = %s", (member,))
    assert (str(row["id"]), str(row["reference_id"])) == (entry, recognition)
    assert (row["created_by"], row["description"]) == (manager, "Great work!")


def test_praise_without_points_is_open_to_everybody(company: Company) -> None:
    tenant = company.tenant(peer_to_peer_enabled=False)
    giver, member = company.member(tenant), company.member(tenant)
    answer = give(company, giver, member, points=0)
    assert (answer["funded_by"], answer["points"]) == ("nothing", "0")
    assert answer["recipients"] == [
        {
            "user_id": str(member),
            "points": "0",
            "new_wallet_balance": None,
            "ledger_entry_id": None,
        }
    ]
    assert company.statement(tenant, member) == []


def test_a_group_is_given_as_much_each(company: Company) -> None:
    tenant = company.tenant(1000)
    manager = company.member(tenant, "hr_admin")
    group = [company.member(tenant) for _ in range(3)]
    answer = give(company, manager, *group)
    assert answer["points"] == "300"
    assert [each["user_id"] for each in answer["recipients"]] == [str(user) for user in group]
    assert [company.wallet(tenant, user) for user in group] == ["100"] * 3
    assert company.pool(tenant) == "700"


def test_a_group_shares_and_the_first_get_what_does_not_divide(company: Company) -> None:
    tenant = company.tenant(1000)
    manager = company.member(tenant, "tenant_manager")
    group = [company.member(tenant) for _ in range(3)]
    answer = give(company, manager, *group, points=D("100.01"), split="equal")
    assert [each["points"] for each in answer["recipients"]] == ["33.34", "33.34", "33.33"]
    assert (answer["points"], company.pool(tenant)) == ("100.01", "899.99")


def test_an_award_tier_says_how_many(company: Company) -> None:
    tenant = company.tenant(10_000)
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    assert give(company, manager, member, points=None, award_tier="Gold")["points"] == "5000"
    with refused("invalid_body", 400, "award_tier: "):
        give(company, manager, member, points=None, award_tier="Tin")
    with refused("invalid_amount", 400, "points: "):
        give(company, manager, member, points=1, award_tier="Gold")
    assert company.pool(tenant) == "5000"


@pytest.mark.parametrize("role", ["tenant_lead", "dept_lead", "manager"])
def test_a_leads_own_budget_pays_when_it_holds_enough(company: Company, role: str) -> None:
    tenant = company.tenant(1000)
    lead, member = company.member(tenant, role), company.member(tenant)
    company.lend(tenant, lead, 150)
    assert give(company, lead, member)["funded_by"] == "lead"
    # What is left does not hold all of it, and one source pays a whole recognition.
    assert give(company, lead, member)["funded_by"] == "pool"
    assert (company.lead_budget(tenant, lead), company.pool(tenant)) == ("50", "750")


def test_an_enforced_pool_that_is_short_refuses_and_nothing_else_pays(company: Company) -> None:
    tenant = company.tenant("99.5")
    department = company.department(tenant)
    manager = company.member(tenant, "tenant_manager", department_id=department)
    member = company.member(tenant)
    company.endow(tenant, department, 1000)
    company.enrich(tenant, manager, 1000)
    with refused("insufficient_pool", 400, SHORT.format("99.5", "100")) as _:
        give(company, manager, member)
    with refused("insufficient_pool", 400, SHORT.format("99.5", "200")):
        give(company, manager, member, company.member(tenant))
    assert (company.pool(tenant), company.wallet(tenant, member)) == ("99.5", "0")


def test_where_it_falls_back_the_budget_pays_and_then_the_giver(company: Company) -> None:
    tenant = company.tenant(50, allocation_mode="legacy_fallback")
    department = company.department(tenant)
    manager = company.member(tenant, "manager", department_id=department)
    member = company.member(tenant)
    company.endow(tenant, department, 100)
    company.enrich(tenant, manager, 100)
    assert [give(company, manager, member)["funded_by"] for _ in range(2)] == ["budget", "wallet"]
    with refused("insufficient_pool", 400, SHORT.format("50", "100")):
        give(company, manager, member)
    assert company.pool(tenant) == "50"
    assert company.budget(tenant, department) == company.wallet(tenant, manager) == "0"
    assert company.statement(tenant, manager)[-1] == ("recognition", "-100", "0")


def test_an_employee_gives_from_the_own_wallet(company: Company) -> None:
    tenant = company.tenant(1000)
    giver, member = company.member(tenant), company.member(tenant)
    company.enrich(tenant, giver, 150)
    assert give(company, giver, member)["funded_by"] == "wallet"
    with refused("insufficient_wallet", 400, "Insufficient wallet. Available: 50, Required: 100"):
        give(company, giver, member)
    company.world.operator.execute("update tenants set peer_to_peer_enabled = false")
    with refused("peer_to_peer_off", 403):
        give(company, giver, member, points=1)
    assert (company.wallet(tenant, giver), company.pool(tenant)) == ("50", "1000")


def test_a_repeated_key_is_answered_as_the_first_time(company: Company) -> None:
    tenant = company.tenant(1000)
    manager = company.member(tenant, "tenant_manager")
    group = [company.member(tenant) for _ in range(3)]
    first = give(company, manager, *group, idempotency_key="k")
    give(company, manager, group[0])
    # What has changed since does not count: it was given.
    company.world.operator.execute(
        "update tenant_members set is_active = false where user_id = %s", (group[1],)
    )
    again = give(company, manager, *group, points=D("100.00"), idempotency_key="k", request_id="r")
    assert again == {**first, "replayed": True}
    with refused("nonce_reused", 409, "idempotency_key: "):
        give(company, manager, *group, points=101, idempotency_key="k")
    assert company.pool(tenant) == "600"


def test_praise_is_replayed_too_and_a_key_is_the_givers_own(company: Company) -> None:
    tenant = company.tenant()
    one, other, member = (company.member(tenant) for _ in range(3))
    first = give(company, one, member, points=0, idempotency_key="k")
    assert give(company, one, member, points=0, idempotency_key="k") == {**first, "replayed": True}
    assert "replayed" not in give(company, other, member, points=0, idempotency_key="k")
    assert company.world.count("recognitions") == 2


@pytest.mark.parametrize(
    ("request_", "code", "detail"),
    [
        ({"message": ""}, "invalid_body", "message: "),
        ({"message": " \n"}, "invalid_body", "message: "),
        ({"message": None}, "invalid_body", "message: "),
        ({"message": "x" * 2001}, "invalid_body", "message: "),
        ({"recognition_type": "other"}, "invalid_body", "recognition_type: "),
        ({"visibility": "secret"}, "invalid_body", "visibility: "),
        ({"split": "unfair"}, "invalid_body", "split: "),
        ({"idempotency_key": "k" * 201}, "invalid_body", "idempotency_key: "),
        ({"points": -1}, "invalid_amount", "points: "),
        ({"points": D("0.001")}, "invalid_amount", "points: "),
        ({"points": D("NaN")}, "invalid_amount", "points: "),
        ({"points": D("Infinity")}, "invalid_amount", "points: "),
        ({"points": D("10000000000000")}, "invalid_amount", "points: "),
    ],
)
def test_what_makes_no_sense_is_refused(
    company: Company, request_: dict[str, Any], code: str, detail: str
) -> None:
    tenant = company.tenant(1000)
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    with refused(code, 400, detail):
        give(company, manager, member, **request_)
    assert company.world.count("recognitions") == 0


def test_recipients_are_other_active_members_each_once(company: Company) -> None:
    tenant, elsewhere = company.tenant(1000), company.tenant(1000, name="Other")
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    gone = company.member(tenant, is_active=False)
    for nobody in (uuid4(), company.member(elsewhere), gone):
        with refused("recipient_not_found", 404):
            give(company, manager, member, nobody)
    with refused("self_recognition", 400):
        give(company, manager, member, manager)
    with refused("invalid_body", 400, "recipients: "):
        give(company, manager, member, member)
    with refused("invalid_body", 400, "recipients: "):
        give(company, manager)
    # Two hundredths are not enough for three.
    group = [company.member(tenant) for _ in range(3)]
    with refused("invalid_amount", 400, "points: "):
        give(company, manager, *group, points=D("0.02"), split="equal")
    with refused("invalid_amount", 400, "points: "):
        give(company, manager, *group, points=D("4e12"))
    assert company.pool(tenant) == "1000"


def test_a_giver_belongs_to_the_tenant(company: Company) -> None:
    tenant, elsewhere = company.tenant(1000), company.tenant(1000, name="Other")
    stranger, member = company.member(elsewhere, "tenant_manager"), company.member(tenant)
    for nobody in (uuid4(), stranger, company.member(tenant, "tenant_manager", is_active=False)):
        with refused("forbidden", 403):
            give(company, nobody, member, tenant_id=tenant)
    with refused("invalid_body", 400, "tenant_id: "):
        give(company, None, member)  # type: ignore[arg-type]
    both = company.member(elsewhere, "tenant_manager")
    company.member(tenant, "tenant_manager", user_id=both)
    with refused("invalid_body", 400, "tenant_id: "):
        give(company, both, member)
    assert give(company, both, member, tenant_id=tenant)["funded_by"] == "pool"
    company.world.operator.execute("update tenants set is_active = false where id = %s", (tenant,))
    with refused("forbidden", 403):
        give(company, both, member, tenant_id=tenant)


def test_a_departments_month_has_a_cap(company: Company) -> None:
    tenant = company.tenant(1000)
    department = company.department(tenant, monthly_cap=250)
    leads = [company.member(tenant, "manager", department_id=department) for _ in range(2)]
    other, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    first = give(company, leads[0], member)
    give(company, leads[1], member)
    with refused("department_cap_reached", 400):
        give(company, leads[0], member)
    give(company, leads[0], member, points=0)
    give(company, other, member)
    give(company, leads[0], member, points=50)
    # What is revoked does not count, and a new month begins anew.
    company.call(
        "revoke_recognition",
        user_id=None,
        recognition_id=first["recognition_id"],
        reason="A mistake",
        tenant_id=tenant,
    )
    give(company, leads[0], member)
    company.world.admin.execute(
        "update recognitions set created_at = date_trunc('month', now(), 'UTC') - interval '1 us'"
    )
    give(company, leads[0], member, points=250)
    with refused("department_cap_reached", 400):
        give(company, leads[1], member, points=D("0.01"))


def test_a_batch_is_decided_in_order_of_arrival(company: Company) -> None:
    tenant = company.tenant(350)
    givers = [company.member(tenant, "tenant_manager") for _ in range(5)]
    member = company.member(tenant)
    requests = [
        asking(givers[0], member),
        asking(givers[1], member, company.member(tenant), points=150),
        asking(givers[2], member),
        asking(givers[3], member, givers[0]),
        asking(givers[4], member, points=150),
    ]
    assert batch(company, *requests) == [
        "pool",
        "insufficient_pool",
        "pool",
        "insufficient_pool",
        "pool",
    ]
    assert (company.pool(tenant), company.wallet(tenant, member)) == ("0", "350")
    assert [row[2] for row in company.statement(tenant, member)] == ["100", "200", "350"]


def test_a_batch_holds_a_department_to_its_cap(company: Company) -> None:
    tenant = company.tenant(1000)
    department = company.department(tenant, monthly_cap=200)
    givers = [company.member(tenant, "manager", department_id=department) for _ in range(4)]
    member = company.member(tenant)
    points = [150, 100, 50, 1]
    requests = [asking(g, member, points=p) for g, p in zip(givers, points, strict=True)]
    assert batch(company, *requests) == [
        "pool",
        "department_cap_reached",
        "pool",
        "department_cap_reached",
    ]
    assert company.pool(tenant) == "800"


def test_in_a_batch_what_was_given_just_now_can_be_given_on(company: Company) -> None:
    tenant = company.tenant(100)
    manager = company.member(tenant, "tenant_manager")
    one, other, third = (company.member(tenant) for _ in range(3))
    requests = [asking(one, other), asking(manager, one), asking(other, third)]
    assert batch(company, *requests) == ["insufficient_wallet", "pool", "insufficient_wallet"]
    requests = [asking(one, other), asking(other, third), asking(third, manager, points=101)]
    assert batch(company, *requests) == ["wallet", "wallet", "insufficient_wallet"]
    assert company.wallet(tenant, third) == "100"


def test_a_batch_may_be_of_many_tenants_and_one_refusal_touches_nobody(company: Company) -> None:
    tenants = [company.tenant(points, name=f"No. {points}") for points in (100, 10, 200)]
    givers = [company.member(tenant, "tenant_manager") for tenant in tenants]
    members = [company.member(tenant) for tenant in tenants]
    requests = [asking(g, m) for g, m in zip(givers, members, strict=True)]
    requests += [asking(uuid4(), members[0]), asking(company.member(tenants[0]), members[1])]
    assert batch(company, *requests) == [
        "pool",
        "insufficient_pool",
        "pool",
        "forbidden",
        "recipient_not_found",
    ]
    assert [company.pool(tenant) for tenant in tenants] == ["0", "10", "100"]


def test_of_64_at_once_on_a_pool_that_affords_40_exactly_40_are_given(company: Company) -> None:
    tenant = company.tenant(40 * 25)
    givers = [company.member(tenant, "tenant_manager") for _ in range(64)]
    members = [company.member(tenant) for _ in range(8)]

    def award(place: int) -> Any:
        def call(session: Connection) -> Any:
            return company.call(
                "give_recognition",
                session,
                user_id=givers[place],
                recipients=[members[place % 8]],
                points=25,
                message="Well done",
            )

        return call

    results = company.world.at_once([award(place) for place in range(64)])
    given = [result for result in results if isinstance(result, dict)]
    assert len(given) == 40
    assert {code_of(r) for r in results if not isinstance(r, dict)} == {"insufficient_pool"}
    left = sorted(int(answer["tenant_remaining_pool"]) for answer in given)
    assert left == list(range(0, 40 * 25, 25))
    assert company.pool(tenant) == "0"
    assert sum(int(company.wallet(tenant, member)) for member in members) == 40 * 25


def test_one_key_at_once_is_one_recognition(company: Company) -> None:
    tenant = company.tenant(1000)
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    for points in (10, 0):

        def call(session: Connection, points: int = points) -> Any:
            return company.call(
                "give_recognition",
                session,
                user_id=manager,
                recipients=[member],
                points=points,
                message="Once",
                idempotency_key=f"k {points}",
            )

        results = company.world.at_once([call] * 8)
        assert all(isinstance(result, dict) for result in results), results
        assert sum("replayed" not in result for result in results) == 1  # type: ignore[operator]
    assert (company.pool(tenant), company.world.count("recognitions")) == ("990", 2)


def test_a_cap_holds_at_once_also_where_wallets_pay(company: Company) -> None:
    tenant = company.tenant()
    department = company.department(tenant, monthly_cap=50)
    givers = [company.member(tenant, department_id=department) for _ in range(10)]
    for giver in givers:
        company.enrich(tenant, giver, 10)

    def gift(place: int) -> Any:
        def call(session: Connection) -> Any:
            return company.call(
                "give_recognition",
                session,
                user_id=givers[place],
                recipients=[givers[place - 1]],
                points=10,
                message="In a circle",
            )

        return call

    results = company.world.at_once([gift(place) for place in range(10)])
    assert sum(isinstance(result, dict) for result in results) == 5
    assert {code_of(r) for r in results if not isinstance(r, dict)} == {"department_cap_reached"}


def test_what_was_not_spent_in_time_is_given_to_nobody(company: Company) -> None:
    company.world.freeze()
    tenant = company.tenant(wallet_expiry_policy="90_days")
    giver, friend = company.member(tenant), company.member(tenant)
    company.enrich(tenant, giver, 100)
    company.world.pass_time(timedelta(days=60))
    company.enrich(tenant, giver, 50)
    company.world.pass_time(timedelta(days=30))
    asked = [asking(giver, friend, points=60), asking(giver, friend, points=50)]
    for request, outcome in zip(asked, ("insufficient_wallet", "wallet"), strict=True):
        assert batch(company, request) == [outcome]
    assert company.wallet(tenant, giver) == "0"
    assert ("expiry", "-100", "50") in company.statement(tenant, giver)
