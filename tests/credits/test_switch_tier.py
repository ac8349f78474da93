"""Users between tiers: whose it is to do, what becomes due, and who may owe."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from typing import Any
from uuid import UUID, uuid4

from tests.credits.bank import Bank
from tests.world import refused

OPEN = -(10**15)


def switch(bank: Bank, user: UUID, tier: str | None, **more: Any) -> Any:
    """As a program does."""
    return bank.call("switch_tier", **{"user_id": None, "account": str(user), "tier": tier, **more})


def own(bank: Bank, user: UUID, tier: str | None) -> Any:
    """As a user does."""
    return bank.call("switch_tier", user_id=user, tier=tier)


def kept(bank: Bank, user: UUID) -> dict[str, Any] | None:
    rows = bank.world.rows(
        "select tier, allocation_due_at, version, updated_at from user_credits where user_id = %s",
        (user,),
    )
    return rows[0] if rows else None


def floor(bank: Bank, user: UUID) -> int:
    found: int = bank.world.value(
        "select floor from ledger.accounts where book_id = %s and account = 'credits'", (user,)
    )
    return found


def administrator(bank: Bank) -> UUID:
    admin: UUID = bank.world.value(
        "insert into system_admins (id, email) values (%s, 'admin@example.org') returning id",
        (uuid4(),),
    )
    return admin


def test_a_program_puts_anybody_into_any_tier(bank: Bank) -> None:
    user = uuid4()
    assert switch(bank, user, "starter") == {
        "user_id": str(user),
        "tier": "starter",
        "previous_tier": "free",
        "account": {
            "user_id": str(user),
            "balance": 0.0,
            "tier": "starter",
            "monthly_cap": None,
            "version": 1,
        },
    }
    again = switch(bank, user, "professional")
    assert (again["previous_tier"], again["account"]["version"]) == ("starter", 2)
    assert floor(bank, user) == 0


def test_a_user_takes_a_smaller_tier_and_no_larger_one(bank: Bank) -> None:
    user = bank.customer(5)
    switch(bank, user, "professional")
    answer = own(bank, user, "trial")
    assert (answer["tier"], answer["previous_tier"]) == ("trial", "professional")
    assert answer["account"]["balance"] == 5.0
    for tier in ("starter", "professional", "enterprise"):
        with refused("forbidden", 403, "tier: "):
            own(bank, user, tier)
    with refused("forbidden", 403, "tier: "):
        own(bank, uuid4(), "trial")
    assert kept(bank, user)["tier"] == "trial"  # type: ignore[index]


def test_a_tier_of_the_same_position_is_a_users_own_to_take(bank: Bank) -> None:
    bank.call(
        "publish_prices",
        bank.world.operator,
        user_id=None,
        note="A sibling",
        changes={"tiers": {"plain": {"markup": 0, "monthly_credits": 0, "position": 1}}},
    )
    assert own(bank, uuid4(), "plain")["tier"] == "plain"


def test_an_administrator_says_whose(bank: Bank) -> None:
    admin, user = administrator(bank), uuid4()
    bank.call("switch_tier", user_id=admin, account=str(user), tier="enterprise", request_id="r-1")
    (row,) = bank.world.rows("select * from audit_log where action = 'credits.tier_switched'")
    assert (row["actor"], row["subject_id"], row["before"], row["after"], row["request_id"]) == (
        "admin@example.org",
        str(user),
        {"tier": "free"},
        {"tier": "enterprise"},
        "r-1",
    )
    bank.world.admin.execute(
        "insert into auth.users (id, email) values (%s, 'admin@example.org')", (admin,)
    )
    for account in (None, str(admin).upper(), "admin@example.org"):
        with refused("forbidden", 403, "tier: "):
            bank.call("switch_tier", user_id=admin, account=account, tier="starter")


def test_whom_an_e_mail_names(bank: Bank) -> None:
    user = uuid4()
    bank.world.admin.execute(
        "insert into auth.users (id, email) values (%s, 'some@example.org')", (user,)
    )
    switch(bank, user, "trial", account="Some@example.org")
    assert kept(bank, user)["tier"] == "trial"  # type: ignore[index]
    with refused("user_not_found", 404, "account: "):
        switch(bank, user, "free", account="nobody@example.org")


def test_what_is_refused(bank: Bank) -> None:
    user = uuid4()
    for tier in ("golden", "", None):
        with refused("unknown_tier", 400, "tier: "):
            switch(bank, user, tier)
    with refused("invalid_body", 400, "account: "):
        bank.call("switch_tier", user_id=None, tier="free")
    with refused("forbidden", 403):
        bank.call("switch_tier", user_id=user, account=str(uuid4()), tier="free")
    with refused("forbidden", 403):
        # Whether there is such a user is nobody's to know.
        bank.call("switch_tier", user_id=user, account="nobody@example.org", tier="free")
    assert kept(bank, user) is None


def test_the_same_tier_again_changes_nothing(bank: Bank) -> None:
    user = uuid4()
    assert own(bank, user, "free")["account"]["version"] == 0
    assert kept(bank, user) is None
    first = switch(bank, user, "starter")
    before = kept(bank, user)
    again = switch(bank, user, "starter")
    assert again == first | {"previous_tier": "starter"}
    assert own(bank, user, "starter") == again
    assert kept(bank, user) == before
    assert bank.world.count("audit_log", "action = 'credits.tier_switched'") == 1


# Monthly credits


def test_monthly_credits_are_due_at_once_where_the_tier_gives_any(bank: Bank) -> None:
    bank.world.freeze()
    user = uuid4()
    for tier, due in [
        ("starter", bank.world.now()),
        ("enterprise", None),
        ("trial", bank.world.now()),
        ("free", None),
    ]:
        switch(bank, user, tier)
        assert kept(bank, user)["allocation_due_at"] == due  # type: ignore[index]


def test_as_many_do_not_come_twice_a_month(bank: Bank) -> None:
    bank.world.freeze(datetime(2026, 3, 20, tzinfo=UTC))
    user = uuid4()
    switch(bank, user, "starter")
    assert bank.call("allocate_monthly_credits", bank.world.worker)["allocated"] == 1
    bank.world.pass_time(timedelta(days=5))
    months_end = datetime(2026, 4, 20, tzinfo=UTC)
    for tier, due in [
        ("trial", months_end),
        ("free", None),
        ("starter", months_end),
        ("professional", bank.world.now()),
    ]:
        switch(bank, user, tier)
        assert kept(bank, user)["allocation_due_at"] == due, tier  # type: ignore[index]
    bank.call("allocate_monthly_credits", bank.world.worker)
    assert bank.balance(user) == D(80)
    switch(bank, user, "free")
    bank.world.freeze(datetime(2026, 5, 1, tzinfo=UTC))
    switch(bank, user, "trial")
    assert kept(bank, user)["allocation_due_at"] == bank.world.now()  # type: ignore[index]


def test_what_was_due_of_a_tier_that_was_left_again_is_due_no_more(bank: Bank) -> None:
    bank.world.freeze(datetime(2026, 3, 20, tzinfo=UTC))
    user = uuid4()
    switch(bank, user, "trial")
    bank.call("allocate_monthly_credits", bank.world.worker)
    for there in ("starter", "enterprise", "free"):
        bank.world.pass_time(timedelta(days=1))
        switch(bank, user, there)
        switch(bank, user, "trial")
        assert kept(bank, user)["allocation_due_at"] == datetime(2026, 4, 20, tzinfo=UTC)  # type: ignore[index]
    assert bank.call("allocate_monthly_credits", bank.world.worker)["allocated"] == 0
    assert bank.balance(user) == 5


def test_a_month_that_came_late_ends_when_it_would_have(bank: Bank) -> None:
    bank.world.freeze(datetime(2026, 3, 20, tzinfo=UTC))
    user = uuid4()
    switch(bank, user, "starter")
    bank.world.pass_time(timedelta(days=3))
    bank.call("allocate_monthly_credits", bank.world.worker)
    switch(bank, user, "free")
    switch(bank, user, "trial")
    assert kept(bank, user)["allocation_due_at"] == datetime(2026, 4, 20, tzinfo=UTC)  # type: ignore[index]
    # What is due at the month's end is due, whoever has not given it yet.
    bank.world.freeze(datetime(2026, 4, 21, tzinfo=UTC))
    switch(bank, user, "starter")
    assert kept(bank, user)["allocation_due_at"] == bank.world.now()  # type: ignore[index]


# Debts


def test_an_unlimited_tier_may_owe_and_a_limited_one_may_not(bank: Bank) -> None:
    user = bank.customer(5)
    switch(bank, user, "enterprise")
    assert floor(bank, user) == OPEN
    bank.give(user, -8, "usage")
    assert bank.balance(user) == D(-3)
    for attempt in (lambda: switch(bank, user, "starter"), lambda: own(bank, user, "free")):
        with refused("credits_owed", 409, "tier: "):
            attempt()
    assert kept(bank, user)["tier"] == "enterprise"  # type: ignore[index]
    bank.give(user, 3, "purchase")
    own(bank, user, "starter")
    assert floor(bank, user) == 0
    (row,) = bank.move({"user_id": user, "amount": -1, "transaction_type": "usage"})
    assert row["outcome"] == "insufficient_funds"


def test_who_has_no_account_yet_may_owe_too(bank: Bank) -> None:
    user = uuid4()
    switch(bank, user, "enterprise")
    bank.give(user, -1, "usage")
    assert bank.balance(user) == D(-1)


def test_what_is_reserved_counts_as_owed(bank: Bank) -> None:
    user = bank.customer(5)
    switch(bank, user, "enterprise")
    bank.call("reserve_credits", user_id=user, model="gpt-4o", max_tokens=1_000_000)
    with refused("credits_owed", 409, "tier: "):
        own(bank, user, "free")


def test_what_has_ended_ends_on_the_old_tiers_terms(bank: Bank) -> None:
    bank.world.freeze()
    bank.call(
        "publish_prices",
        bank.world.operator,
        user_id=None,
        note="Some keep",
        changes={"tiers": {"starter": {"rollover_max": 20}}},
    )
    user = uuid4()
    switch(bank, user, "starter")
    bank.give(user, 20, "allocation", expires_at=bank.world.now() + timedelta(days=1))
    bank.world.pass_time(timedelta(days=2))
    assert own(bank, user, "free")["account"]["balance"] == 20.0
    assert bank.lots(user) == [("rollover", D(20))]


# Races


def test_switching_waits_for_what_moves_the_same_users_credits(bank: Bank) -> None:
    user = uuid4()
    first = bank.world.session("tallybook_functions", autocommit=False)
    bank.call("switch_tier", first, user_id=None, account=str(user), tier="starter")
    with bank.world.in_background(
        lambda session: bank.call(
            "switch_tier", session, user_id=None, account=str(user), tier="trial"
        ),
        bank.world.session("tallybook_functions"),
    ) as waiting:
        first.commit()
        answer = waiting.result()
    assert (answer["previous_tier"], answer["account"]["version"]) == ("starter", 2)


def test_the_same_switch_at_once_happens_once(bank: Bank) -> None:
    user = uuid4()
    answers = bank.world.at_once(
        [
            lambda session: bank.call(
                "switch_tier", session, user_id=None, account=str(user), tier="starter"
            )["account"]["version"]
        ]
        * 4
    )
    assert answers == [1] * 4
    assert bank.world.count("audit_log", "action = 'credits.tier_switched'") == 1
