"""What requests gathered in one call do to one another, and who may ask for what in it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.tenants.company import Company
from tests.tenants.test_give_recognition import asking, batch, give
from tests.world import Outcome, refused

CORE = "internal.give_recognition_batch"


def outcomes(company: Company, *requests: dict[str, Any]) -> list[Outcome]:
    return company.world.batch(CORE, requests, None)


def award(company: Company, giver: UUID | None, to: UUID, **more: Any) -> Any:
    asked = {"user_id": giver, "to_user_id": to, "amount": D(1), "recognition_message": "x"}
    return company.call("award_to_user", **asked, **more)


@pytest.mark.parametrize("twice", [None, uuid4()])
def test_nobody_asks_twice_in_a_call(company: Company, twice: UUID | None) -> None:
    tenant = company.tenant(100)
    member = company.member(tenant)
    requests = [{**asking(uuid4(), member, tenant_id=tenant), "user_id": twice} for _ in range(2)]
    with pytest.raises(psycopg.errors.RaiseException):
        batch(company, *requests)
    assert company.pool(tenant) == "100"


def test_praise_and_refusals_between_paid_ones_shift_nobodys_balance(company: Company) -> None:
    """What is told of a wallet is what its own movement left, wherever it stands in the call."""
    tenant, elsewhere = company.tenant(1000), company.tenant(500, name="Other")
    managers = [company.member(tenant, "tenant_manager") for _ in range(6)]
    one, other, third = (company.member(tenant) for _ in range(3))
    known = give(company, managers[0], third, one, points=3, idempotency_key="k")
    requests = [
        asking(managers[1], one, other, points=10),
        asking(managers[2], one, points=0),
        asking(managers[0], third, one, points=3, idempotency_key="k"),
        asking(managers[3], one, points=5000),
        asking(company.member(elsewhere, "hr_admin"), company.member(elsewhere), points=7),
        asking(managers[4], third, one, other, points="10.01", split="equal"),
        asking(uuid4(), one),
        asking(managers[5], other, points=20),
    ]
    told = outcomes(company, *requests)
    assert [
        [(r["points"], r["new_wallet_balance"]) for r in outcome.answer["recipients"]]
        if outcome.answer
        else (outcome.refusal or {})["code"]
        for outcome in told
    ] == [
        [("10", "13"), ("10", "10")],
        [("0", None)],
        [("3", "3"), ("3", "3")],
        "insufficient_pool",
        [("7", "7")],
        [("3.34", "6.34"), ("3.34", "16.34"), ("3.33", "13.33")],
        "forbidden",
        [("20", "33.33")],
    ]
    assert told[2].answer == {**known, "replayed": True}
    pools = [outcome.answer and outcome.answer["tenant_remaining_pool"] for outcome in told]
    assert pools == ["974", "974", "994", None, "493", "963.99", None, "943.99"]
    # Every entry bears its own name, in the order in which the wallet got it.
    assert [row[2] for row in company.statement(tenant, one)] == ["3", "13", "16.34"]
    assert [row[2] for row in company.statement(tenant, other)] == ["10", "13.33", "33.33"]
    assert company.world.count("recognition_recipients", "points = 0 and entry_id is null") == 1


def test_the_pool_is_told_of_each_tenant_in_turn(company: Company) -> None:
    """Also where one comes again after the other, and where the pool does not pay."""
    tenants = [company.tenant(points, name=f"No. {points}") for points in (100, 200)]
    managers = [[company.member(t, "hr_admin") for t in tenants] for _ in range(2)]
    friends = [company.member(tenant) for tenant in tenants]
    giver = company.member(tenants[1])
    company.enrich(tenants[1], giver, 5)
    requests = [
        asking(giver, friends[1], points=5),
        *(asking(g, m, points=10) for turn in managers for g, m in zip(turn, friends, strict=True)),
    ]
    answers = [outcome.answer for outcome in outcomes(company, *requests)]
    assert [answer and answer["funded_by"] for answer in answers] == ["wallet", *["pool"] * 4]
    pools = [answer and answer["tenant_remaining_pool"] for answer in answers]
    assert pools == ["200", "90", "190", "80", "180"]


def test_who_gives_from_an_own_wallet_is_told_of_a_pool_that_pays_nothing(company: Company) -> None:
    tenant, empty = company.tenant("123.45"), company.tenant()
    for place, pool in ((tenant, "123.45"), (empty, "0")):
        giver = company.member(place)
        company.enrich(place, giver, 5)
        answer = give(company, giver, company.member(place), points=5)
        assert (answer["funded_by"], answer["tenant_remaining_pool"]) == ("wallet", pool)


def test_of_a_group_each_gives_on_what_they_got_themselves(company: Company) -> None:
    """The first of a group got a hundredth more than the others."""
    tenant = company.tenant("0.04")
    manager, friend = company.member(tenant, "tenant_manager"), company.member(tenant)
    one, other, third = (company.member(tenant) for _ in range(3))
    requests = [
        asking(manager, one, other, third, points="0.04", split="equal"),
        asking(other, friend, points="0.01"),
        asking(third, friend, points="0.02"),
        asking(one, friend, points="0.02"),
    ]
    assert batch(company, *requests) == ["pool", "wallet", "insufficient_wallet", "wallet"]
    assert [company.wallet(tenant, user) for user in (one, other, third)] == ["0", "0", "0.01"]


def test_two_hundred_are_recognized_at_most(company: Company) -> None:
    tenant = company.tenant(1000)
    manager = company.member(tenant, "tenant_manager")
    group = [company.member(tenant) for _ in range(200)]
    for split, points, first, last in (("equal", D("2.01"), "0.02", "0.01"), ("flat", 1, "1", "1")):
        request = {"points": points, "split": split, "idempotency_key": split}
        answer = give(company, manager, *group, **request)
        told = answer["recipients"]
        assert [each["user_id"] for each in told] == [str(user) for user in group]
        assert (told[0]["points"], told[-1]["points"]) == (first, last)
        assert len({each["ledger_entry_id"] for each in told}) == 200
        assert give(company, manager, *group, **request) == {**answer, "replayed": True}
    assert company.pool(tenant) == "797.99"
    with refused("invalid_body", 400, "recipients: "):
        give(company, manager, *group, company.member(tenant), points=0)


def test_a_hundredth_for_each_is_enough(company: Company) -> None:
    tenant = company.tenant("0.03")
    manager = company.member(tenant, "tenant_manager")
    group = [company.member(tenant) for _ in range(3)]
    answer = give(company, manager, *group, points=D("0.03"), split="equal")
    assert [each["points"] for each in answer["recipients"]] == ["0.01"] * 3
    # What is shared is not multiplied, and so the most of all may be asked for.
    with refused("insufficient_pool", 400):
        give(company, manager, *group, points=D("9999999999999.99"), split="equal")
    with refused("insufficient_pool", 400):
        give(company, manager, group[0], points=D("1.000"))


@pytest.mark.parametrize("split", ["flat", "equal"])
@pytest.mark.parametrize("points", ["1e131071", "-1e131071", "1e-16000", "NaN", "Infinity"])
def test_a_number_beyond_all_numbers_fails_nobody_else(
    company: Company, points: str, split: str
) -> None:
    tenant = company.tenant(100)
    managers = [company.member(tenant, "tenant_manager") for _ in range(2)]
    group = [company.member(tenant) for _ in range(100)]
    wrong = asking(managers[0], *group, points=points, split=split, idempotency_key="k")
    assert batch(company, wrong, asking(managers[1], group[0])) == ["invalid_amount", "pool"]


def test_a_budget_of_a_hundredth_pays_too(company: Company) -> None:
    tenant = company.tenant(10)
    lead, member = company.member(tenant, "dept_lead"), company.member(tenant)
    company.lend(tenant, lead, "0.01")
    assert give(company, lead, member, points=D("0.01"))["funded_by"] == "lead"


def test_a_tenants_key_is_not_another_tenants(company: Company) -> None:
    tenants = [company.tenant(100, name=name) for name in ("One", "Other")]
    requests = [
        {
            "to_user_id": company.member(tenant), "amount": 10, "recognition_message": "x",
            "tenant_id": tenant, "user_id": company.admin(), "idempotency_key": "k",
        }
        for tenant in tenants
    ]  # fmt: skip
    for replayed in (False, True):
        told = company.world.batch("internal.award_to_user_batch", requests, None)
        assert ["replayed" in (each.answer or {}) for each in told] == [replayed] * 2
        assert [each.refusal for each in told] == [None] * 2
    assert [company.pool(tenant) for tenant in tenants] == ["90", "90"]


def test_keys_are_told_apart_whatever_their_order(company: Company) -> None:
    tenant = company.tenant(100)
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    for giver in (manager, None):
        first = {
            key: award(company, giver, member, tenant_id=tenant, idempotency_key=key)
            for key in ("b", "a", "c")
        }
        for key, answer in first.items():
            again = award(company, giver, member, tenant_id=tenant, idempotency_key=key)
            assert again == {**answer, "replayed": True}
    assert company.pool(tenant) == "94"


def test_what_went_from_wallet_to_wallet_is_told_again_of_the_one_it_reached(
    company: Company,
) -> None:
    """The entry bears one name in both statements, whoever's comes first."""
    tenant = company.tenant()
    one, other = (company.member(tenant) for _ in range(2))
    for user, points in ((one, 50), (other, 90)):
        company.enrich(tenant, user, points)
    for giver, friend in ((one, other), (other, one)):
        request = {"points": 10, "idempotency_key": "k"}
        answer = give(company, giver, friend, **request)
        assert give(company, giver, friend, **request) == {**answer, "replayed": True}


def test_a_members_key_is_not_the_systems(company: Company) -> None:
    tenant = company.tenant(100)
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    asked = {"to_user_id": member, "amount": 10, "recognition_message": "x", "tenant_id": tenant}
    requests = [
        {**asked, "user_id": manager, "idempotency_key": "k"},
        {**asked, "user_id": company.admin(), "idempotency_key": "k"},
        {**asked, "user_id": company.admin(), "idempotency_key": "k"},
    ]
    first, system, again = company.world.batch("internal.award_to_user_batch", requests, None)
    assert first.answer and system.answer and again.answer == {**system.answer, "replayed": True}
    assert first.answer["recognition_id"] != system.answer["recognition_id"]
    assert company.pool(tenant) == "80"


def test_a_key_of_the_same_call_is_known_whatever_else_is_wrong(company: Company) -> None:
    """As one after the other: who asks for something else under a known key is told of the key."""
    tenant = company.tenant(100)
    member = company.member(tenant)
    asked = {"tenant_id": tenant, "award": True, "idempotency_key": "k"}
    requests = [{**asking(company.admin(), member, points=points), **asked} for points in (1, 0)]
    first, second = outcomes(company, *requests)
    assert first.answer
    assert (second.refusal or {})["code"] == "nonce_reused"


def test_who_was_refused_took_no_key(company: Company) -> None:
    """The system's next request under it is a first one, in the same call and later."""
    tenant = company.tenant(15)
    member = company.member(tenant)
    requests = [
        {
            "to_user_id": member, "amount": amount, "recognition_message": "x",
            "tenant_id": tenant, "user_id": company.admin(), "idempotency_key": "k",
        }
        for amount in (20, 10, 10)
    ]  # fmt: skip
    short, given, again = company.world.batch("internal.award_to_user_batch", requests, None)
    assert (short.refusal or {})["code"] == "insufficient_pool"
    assert given.answer and again.answer == {**given.answer, "replayed": True}
    assert company.pool(tenant) == "5"


@pytest.mark.parametrize(
    "other",
    [
        {"award_tier": "Silver"},
        {"split": "equal"},
        {"visibility": "private"},
        {"recognition_type": "ecard"},
        {"message": "Well done!"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_request_under_a_key_is_refused(company: Company, other: dict[str, Any]) -> None:
    tenant = company.tenant(10_000, award_tiers='{"Gold": 10, "Silver": 10}')
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    request = {"points": None, "award_tier": "Gold", "idempotency_key": "k"}
    give(company, manager, member, **request)
    with refused("nonce_reused", 409, "idempotency_key: "):
        give(company, manager, member, **{**request, **other})


def test_an_award_is_another_request_than_a_recognition(company: Company) -> None:
    tenant = company.tenant(100)
    manager, member = company.member(tenant, "tenant_manager"), company.member(tenant)
    give(
        company, manager, member, points=1, message="x", recognition_type="individual_award",
        idempotency_key="k",
    )  # fmt: skip
    with refused("nonce_reused", 409, "idempotency_key: "):
        award(company, manager, member, idempotency_key="k")


def test_a_cap_is_the_givers_departments_own(company: Company) -> None:
    tenant = company.tenant(1000)
    departments = [
        company.department(tenant, str(cap), monthly_cap=cap) for cap in (None, 10, 300, 20)
    ]
    givers = [company.member(tenant, "manager", department_id=d) for d in departments]
    member = company.member(tenant)
    assert batch(company, *(asking(giver, member) for giver in givers)) == [
        "pool",
        "department_cap_reached",
        "pool",
        "department_cap_reached",
    ]


def test_a_cap_that_was_lowered_leaves_nothing_and_not_less(company: Company) -> None:
    tenant = company.tenant(1000)
    department = company.department(tenant, monthly_cap=100)
    giver = company.member(tenant, "manager", department_id=department)
    member = company.member(tenant)
    give(company, giver, member)
    company.world.operator.execute("update departments set monthly_cap = 50")
    with refused("department_cap_reached", 400, "The department may give 0 more this month."):
        give(company, giver, member, points=1)


def test_a_month_begins_with_its_first_moment(company: Company) -> None:
    tenant = company.tenant(1000)
    department = company.department(tenant, monthly_cap=100)
    giver = company.member(tenant, "manager", department_id=department)
    give(company, giver, company.member(tenant))
    company.world.admin.execute(
        "update recognitions set created_at = date_trunc('month', now(), 'UTC')"
    )
    with refused("department_cap_reached", 400):
        give(company, giver, company.member(tenant), points=1)


def test_who_is_given_points_in_two_tenants_at_once_has_two_wallets(company: Company) -> None:
    tenants = [company.tenant(1000, name=name) for name in ("One", "Other")]
    user = uuid4()
    for tenant in tenants:
        company.member(tenant, user_id=user)
    company.enrich(tenants[1], user, 7)
    givers = [[company.member(t, "hr_admin") for t in tenants] for _ in range(2)]
    requests = [asking(giver, user, points=1 + n) for n, g in enumerate(givers) for giver in g]
    answers = [outcome.answer for outcome in outcomes(company, *requests)]
    told = [answer and answer["recipients"][0]["new_wallet_balance"] for answer in answers]
    assert told == ["1", "8", "3", "10"]
    assert company.world.count("wallets", "user_id = %s", user) == 2


def test_what_is_held_in_a_pool_is_nobodys_to_give(company: Company) -> None:
    tenant = company.tenant(100)
    company.world.admin.execute(
        "select ledger.hold(%s, %s, 'tenant.pool', 6000, 'test', %s, now() + interval '1 hour')",
        (tenant, uuid4(), uuid4()),
    )
    managers = [company.member(tenant, "tenant_manager") for _ in range(2)]
    member = company.member(tenant)
    requests = [asking(m, member, points=n) for m, n in zip(managers, (41, 40), strict=True)]
    short, given = outcomes(company, *requests)
    assert (short.refusal or {})["detail"].endswith("Available: 40, Required: 41")
    assert given.answer and given.answer["tenant_remaining_pool"] == "0"


def test_in_a_call_each_wallet_goes_by_its_own_tenants_term(company: Company) -> None:
    """What is too old goes before anybody gives, of those who give from a wallet alone."""
    company.world.freeze()
    short, ever = company.tenant(1, wallet_expiry_policy="90_days"), company.tenant(10)
    manager = company.member(short, "tenant_manager")
    company.enrich(short, manager, 100)
    givers = [company.member(tenant) for tenant in (short, short, ever)]
    friends = [company.member(tenant) for tenant in (short, ever)]
    for tenant, user in zip((short, short, ever), givers, strict=True):
        company.enrich(tenant, user, 100)
    company.enrich(short, friends[0], 100)
    company.world.pass_time(timedelta(days=60))
    company.enrich(short, givers[1], "50.5")
    company.world.pass_time(timedelta(days=31))
    requests = [
        asking(givers[0], friends[0], points=1),
        asking(givers[1], givers[0], points="50.5"),
        asking(givers[2], friends[1], points=100),
        asking(company.member(ever, "hr_admin"), friends[1], points=1),
        asking(manager, friends[0], points=1),
    ]
    told = batch(company, *requests)
    assert told == ["insufficient_wallet", "wallet", "wallet", "pool", "pool"]
    assert [company.wallet(short, user) for user in givers[:2]] == ["50.5", "0"]
    # Who gives nothing of their own keeps what is too old until upkeep comes.
    assert [company.wallet(short, user) for user in (friends[0], manager)] == ["101", "100"]


# Administrators


def test_an_administrator_no_more_is_nobody(company: Company) -> None:
    tenant, admin = company.tenant(100), company.admin()
    member = company.member(tenant)
    company.world.operator.execute("update system_admins set is_active = false")
    with refused("forbidden", 403, "This is open to the members"):
        award(company, admin, member, tenant_id=tenant)
    company.member(tenant, user_id=admin)
    with refused("forbidden", 403, "This is open to managers and leads"):
        award(company, admin, member, tenant_id=tenant)


def test_a_wallets_statement_names_the_administrator_who_awarded(company: Company) -> None:
    tenant, admin = company.tenant(100), company.admin()
    member = company.member(tenant)
    for who in (admin, None):
        award(company, who, member, tenant_id=tenant)
    rows = company.world.rows("select created_by from wallet_ledger order by id")
    assert [row["created_by"] for row in rows] == [admin, None]


def test_an_administrator_who_manages_there_awards_as_manager(company: Company) -> None:
    tenant, admin = company.tenant(100), company.admin()
    company.member(tenant, "tenant_manager", user_id=admin)
    award(company, admin, company.member(tenant), tenant_id=tenant)
    (given,) = company.world.rows("select from_user_id from recognitions")
    assert given["from_user_id"] == admin


def test_an_administrator_who_works_there_and_names_no_tenant_is_an_employee(
    company: Company,
) -> None:
    tenant, admin = company.tenant(100), company.admin()
    company.member(tenant, user_id=admin)
    with refused("forbidden", 403, "This is open to managers and leads"):
        award(company, admin, company.member(tenant))


def test_an_administrator_awards_nothing_to_themselves(company: Company) -> None:
    tenant, admin = company.tenant(100), company.admin()
    company.member(tenant, user_id=admin)
    with refused("self_recognition", 400):
        award(company, admin, admin, tenant_id=tenant)


def test_the_system_awards_in_no_closed_tenant(company: Company) -> None:
    closed, member = company.tenant(100), uuid4()
    company.member(closed, user_id=member)
    first = award(company, None, member, tenant_id=closed, idempotency_key="k")
    company.world.operator.execute("update tenants set is_active = false")
    for who in (None, company.admin()):
        with refused("tenant_not_found", 404):
            award(company, who, member, tenant_id=closed)
        # What was done before is told of all the same.
        again = award(company, who, member, tenant_id=closed, idempotency_key="k")
        assert again == {**first, "replayed": True}
    assert company.pool(closed) == "99"
