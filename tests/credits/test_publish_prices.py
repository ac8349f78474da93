"""New price lists: what they hold, when they are in force, and that none changes afterwards."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.credits.bank import Bank
from tests.world import Connection, code_of, refused

PARTS = [
    "pricing_versions",
    "pricing_models",
    "pricing_providers",
    "pricing_power_levels",
    "pricing_tiers",
]
SOME = {"models": {"gpt-5": 0.02}}


def publish(
    bank: Bank,
    changes: Any,
    through: Connection | None = None,
    note: str | None = "New",
    **more: Any,
) -> Any:
    request = {"user_id": None, "changes": Jsonb(changes), "note": note, **more}
    return bank.call("publish_prices", through or bank.world.operator, **request)


def withdraw(bank: Bank, version: int, through: Connection | None = None, **more: Any) -> Any:
    request = {"user_id": None, "version": version, **more}
    return bank.call("withdraw_prices", through or bank.world.operator, **request)


def listed(bank: Bank, version: int | None = None) -> Any:
    """A price list without what is its own of each version."""
    found = bank.call("price_list", version=version)
    return {k: v for k, v in found.items() if k not in ("version", "effective_from", "note")}


def test_a_new_list_is_the_newest_one_with_the_changes(bank: Bank) -> None:
    before = listed(bank)
    answer = publish(
        bank,
        {
            "models": {"gpt-5": 0.02, "gpt-4o": 0.0125, "claude-3.5-sonnet": None},
            "providers": {"mistral": 0.004, "deepinfra": None},
            "power_levels": {"eco": {"cost_multiplier": 0.2, "max_cost_per_request": None}},
            "tiers": {"starter": {"markup": 0.5, "rollover_max": 20}},
            "default_price": 0.012,
        },
    )
    after = listed(bank)
    del before["models"]["claude-3.5-sonnet"], before["providers"]["deepinfra"]
    before["models"] |= {"gpt-5": 0.02, "gpt-4o": 0.0125}
    before["providers"]["mistral"] = 0.004
    before["power_levels"]["eco"] |= {"cost_multiplier": 0.2, "max_cost_per_request": None}
    before["tiers"]["starter"] |= {"markup": 0.5, "rollover_max": 20}
    before["default_price"] = 0.012
    assert after == before
    assert (answer["version"], answer["note"]) == (2, "New")
    assert bank.call("price_list", version=None)["version"] == 2
    found = {change["path"]: (change["before"], change["after"]) for change in answer["changes"]}
    assert sorted(found) == [
        "default_price",
        "models.claude-3.5-sonnet",
        "models.gpt-4o",
        "models.gpt-5",
        "power_levels.eco",
        "providers.deepinfra",
        "providers.mistral",
        "tiers.starter",
    ]
    assert found["models.gpt-5"] == (None, 0.02)
    assert found["models.claude-3.5-sonnet"] == (0.015, None)
    assert (found["tiers.starter"][0]["markup"], found["tiers.starter"][1]["markup"]) == (0.4, 0.5)


def test_a_new_power_level_and_a_new_tier(bank: Bank) -> None:
    level = {
        "cost_multiplier": 2,
        "max_tokens": 32000,
        "temperature": 0.1,
        "quality": 0.99,
        "latency": "slow",
        "preferred_providers": ["anthropic"],
    }
    tier = {"markup": 0.2, "monthly_credits": 10, "position": 3}
    publish(bank, {"power_levels": {"deep": level}, "tiers": {"student": tier}})
    assert listed(bank)["power_levels"]["deep"] == level | {"max_cost_per_request": None}
    assert listed(bank)["tiers"]["student"] == tier | {"rollover_max": 0, "low_balance_below": 100}
    publish(bank, {"power_levels": {"deep": None}})
    assert "deep" not in listed(bank)["power_levels"]


def test_a_list_waits_until_it_is_in_force(bank: Bank) -> None:
    bank.world.freeze()
    at = bank.world.now() + timedelta(days=30)
    assert publish(bank, SOME, effective_from=at)["effective_from"] == at.isoformat()
    assert "gpt-5" not in listed(bank)["models"]
    assert listed(bank, 2)["models"]["gpt-5"] == 0.02
    bank.world.pass_time(timedelta(days=30))
    assert listed(bank)["models"]["gpt-5"] == 0.02
    assert "gpt-5" not in listed(bank, 1)["models"]


def test_who_published_what_and_why_is_written_down(bank: Bank) -> None:
    publish(bank, SOME, actor="op@example.org", request_id="r-1")
    rows = bank.world.rows("select * from audit_log order by audit_id")
    assert [row["action"] for row in rows] == ["settings.insert", "prices.published"]
    assert {(row["actor"], row["reason"], row["subject_id"]) for row in rows} == {
        ("op@example.org", "New", "2")
    }
    assert rows[1]["request_id"] == "r-1"
    assert rows[1]["after"]["changes"] == [{"path": "models.gpt-5", "before": None, "after": 0.02}]


def test_what_is_so_already_makes_no_new_list(bank: Bank) -> None:
    first = publish(bank, SOME)
    again = publish(bank, SOME)
    assert (again["version"], again["changes"], again["replayed"]) == (first["version"], [], True)
    assert again["effective_from"] == first["effective_from"]
    assert publish(bank, {})["replayed"]
    assert publish(bank, {"models": {"never-there": None}})["version"] == 2
    assert bank.world.count("pricing_versions") == 2


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ([], "changes"),
        (1, "changes"),
        ({"modells": {}}, "changes.modells"),
        ({"models": []}, "changes.models"),
        ({"models": None}, "changes.models"),
        ({"models": {"gpt-5": "0.02"}}, "changes.models.gpt-5"),
        ({"models": {"gpt-5": -0.02}}, "changes.models.gpt-5"),
        ({"models": {"gpt-5": 0.0000000001}}, "changes.models.gpt-5"),
        ({"models": {"gpt-5": 1e9}}, "changes.models.gpt-5"),
        ({"models": {"gpt-5": 1e300}}, "changes.models.gpt-5"),
        ({"models": {"gpt-5": {"price": 1}}}, "changes.models.gpt-5"),
        ({"models": {"gpt 5": 1}}, "changes.models.gpt 5"),
        ({"models": {"": 1}}, "changes.models."),
        ({"providers": {"x" * 101: 1}}, "changes.providers." + "x" * 101),
        ({"providers": {"openai": True}}, "changes.providers.openai"),
        ({"default_price": None}, "changes.default_price"),
        ({"default_price": -1}, "changes.default_price"),
        ({"default_price": {}}, "changes.default_price"),
        ({"power_levels": {"balanced": None}}, "changes.power_levels.balanced"),
        ({"power_levels": {"eco": 1}}, "changes.power_levels.eco"),
        ({"power_levels": {"eco": {"cost": 1}}}, "changes.power_levels.eco.cost"),
        (
            {"power_levels": {"eco": {"cost_multiplier": None}}},
            "changes.power_levels.eco.cost_multiplier",
        ),
        ({"power_levels": {"eco": {"max_tokens": 1.5}}}, "changes.power_levels.eco.max_tokens"),
        ({"power_levels": {"eco": {"max_tokens": 0}}}, "changes.power_levels.eco.max_tokens"),
        (
            {"power_levels": {"eco": {"max_cost_per_request": 0}}},
            "changes.power_levels.eco.max_cost_per_request",
        ),
        ({"power_levels": {"eco": {"latency": 1}}}, "changes.power_levels.eco.latency"),
        ({"power_levels": {"eco": {"latency": ""}}}, "changes.power_levels.eco.latency"),
        (
            {"power_levels": {"eco": {"preferred_providers": "groq"}}},
            "changes.power_levels.eco.preferred_providers",
        ),
        (
            {"power_levels": {"eco": {"preferred_providers": [None]}}},
            "changes.power_levels.eco.preferred_providers",
        ),
        (
            {"power_levels": {"deep": {"max_tokens": 1}}},
            "changes.power_levels.deep.cost_multiplier",
        ),
        ({"power_levels": {"Deep": {}}}, "changes.power_levels.Deep"),
        ({"tiers": {"starter": None}}, "changes.tiers.starter"),
        ({"tiers": {"starter": {"markup": -0.1}}}, "changes.tiers.starter.markup"),
        ({"tiers": {"starter": {"markup": 0.12345}}}, "changes.tiers.starter.markup"),
        (
            {"tiers": {"starter": {"monthly_credits": None}}},
            "changes.tiers.starter.monthly_credits",
        ),
        (
            {"tiers": {"enterprise": {"monthly_credits": 9}}},
            "changes.tiers.enterprise.monthly_credits",
        ),
        ({"tiers": {"student": {"markup": 0}}}, "changes.tiers.student.monthly_credits"),
    ],
)
def test_what_is_no_change_of_prices(bank: Bank, changes: Any, path: str) -> None:
    with refused("invalid_body", 400, f"{path}: "):
        publish(bank, changes)
    assert bank.world.count("pricing_versions") == 1


def test_the_past_and_what_is_planned_already_are_closed(bank: Bank) -> None:
    bank.world.freeze()
    now = bank.world.now()
    for at in (now - timedelta(microseconds=1), "infinity", "-infinity"):
        with refused("invalid_body", 400, "effective_from: "):
            publish(bank, SOME, effective_from=at)
    publish(bank, SOME, effective_from=now + timedelta(days=1))
    for when in (None, now + timedelta(hours=1), now + timedelta(days=1)):
        with refused("invalid_body", 400, "effective_from: "):
            publish(bank, {"models": {"gpt-6": 1}}, effective_from=when)
    publish(bank, {"models": {"gpt-6": 1}}, effective_from=now + timedelta(days=2))
    assert listed(bank, 3)["models"]["gpt-5"] == 0.02


@pytest.mark.parametrize("note", [None, "", " "])
def test_a_note_says_why(bank: Bank, note: str | None) -> None:
    with refused("reason_required", 400, "note: "):
        publish(bank, SOME, note=note)


def test_only_administrators_publish_and_withdraw(bank: Bank) -> None:
    for call in (
        lambda: publish(bank, SOME, user_id=uuid4()),
        lambda: withdraw(bank, 1, user_id=uuid4()),
    ):
        with refused("forbidden", 403):
            call()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        publish(bank, SOME, bank.world.functions)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        withdraw(bank, 1, bank.world.worker)


def test_of_two_at_once_one_is_published(bank: Bank) -> None:
    first = bank.world.session("tallybook_operator", autocommit=False)
    second = bank.world.session("tallybook_operator", autocommit=False)
    second.execute("select now()")
    publish(bank, SOME, first)
    with bank.world.in_background(
        lambda session: publish(bank, {"models": {"gpt-6": 1}}, session), second
    ) as waiting:
        first.commit()
        with refused("invalid_body", 400, "effective_from: "):
            waiting.result()
    assert bank.world.count("pricing_versions") == 2


def test_the_same_published_twice_at_once_is_one(bank: Bank) -> None:
    answers = bank.world.at_once(
        [lambda session: publish(bank, SOME, session)["version"]] * 4, "tallybook_operator"
    )
    assert answers == [2] * 4
    assert bank.world.count("pricing_versions") == 2


# A list in force


@pytest.mark.parametrize("who", ["tallybook_operator", "postgres"])
@pytest.mark.parametrize("table", PARTS)
@pytest.mark.parametrize(
    "statement",
    [
        "update {t} set version = version where version = 1",
        "update {t} set version = 3 where version = 1",
        "delete from {t} where version = 1",
        "insert into {t} select * from {t} where version = 1 limit 1",
    ],
)
def test_a_list_in_force_never_changes(bank: Bank, who: str, table: str, statement: str) -> None:
    session = bank.world.session(who)
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as raised:
        session.execute(statement.format(t=f"public.{table}").encode())
    assert "does not change" in str(raised.value)


@pytest.mark.parametrize("table", PARTS)
def test_nobody_empties_the_lists(bank: Bank, table: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as raised:
        bank.world.admin.execute(f"truncate public.{table} cascade".encode())
    assert "does not change" in str(raised.value)


def test_nothing_comes_into_force_by_hand_in_the_past(bank: Bank) -> None:
    bank.world.freeze()
    now = bank.world.now()
    publish(bank, SOME, effective_from=now + timedelta(days=1))
    move = "update pricing_versions set effective_from = %s where version = 2"
    for at in (now, now - timedelta(days=1)):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bank.world.operator.execute(move, (at,))
    bank.world.operator.execute(move, (now + timedelta(hours=1),))
    bank.world.operator.execute("update pricing_models set price_per_1k = 1 where version = 2")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bank.world.operator.execute("update pricing_models set version = 1 where model = 'gpt-5'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bank.world.operator.execute(
            "insert into pricing_versions (version, effective_from, default_price)"
            " values (9, '2000-01-01Z', 0)"
        )
    bank.world.pass_time(timedelta(hours=1))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bank.world.operator.execute("update pricing_models set price_per_1k = 2 where version = 2")


# Withdrawing


def test_a_list_that_is_not_in_force_is_withdrawn(bank: Bank) -> None:
    bank.world.freeze()
    at = bank.world.now() + timedelta(days=1)
    publish(bank, SOME, effective_from=at)
    answer = withdraw(bank, 2, reason="A mistake", actor="op@example.org", request_id="r-2")
    assert answer == {"version": 2, "effective_from": at.isoformat()}
    assert [bank.world.count(table, "version = 2") for table in PARTS] == [0] * 5
    (last,) = bank.world.rows("select * from audit_log order by audit_id desc limit 1")
    assert (last["action"], last["actor"], last["reason"], last["request_id"]) == (
        "prices.withdrawn",
        "op@example.org",
        "A mistake",
        "r-2",
    )
    assert publish(bank, SOME)["version"] == 2


def test_what_is_withdrawn_is_not_found_again(bank: Bank) -> None:
    bank.world.freeze()
    publish(bank, SOME, effective_from=bank.world.now() + timedelta(days=1))
    withdraw(bank, 2)
    with refused("not_found", 404, "version: "):
        withdraw(bank, 2)
    with refused("not_found", 404, "version: "):
        bank.call("price_list", version=2)


def test_what_is_in_force_or_was_built_on_is_not_withdrawn(bank: Bank) -> None:
    bank.world.freeze()
    now = bank.world.now()
    with refused("prices_in_force", 409, "version: "):
        withdraw(bank, 1)
    publish(bank, SOME, effective_from=now + timedelta(days=1))
    publish(bank, {"models": {"gpt-6": 1}}, effective_from=now + timedelta(days=2))
    with refused("invalid_body", 400, "version: "):
        withdraw(bank, 2)
    withdraw(bank, 3)
    bank.world.pass_time(timedelta(days=1))
    with refused("prices_in_force", 409, "version: "):
        withdraw(bank, 2)


def test_of_several_who_withdraw_one_does(bank: Bank) -> None:
    bank.world.freeze()
    publish(bank, SOME, effective_from=bank.world.now() + timedelta(days=1))
    answers = bank.world.at_once(
        [lambda session: withdraw(bank, 2, session)] * 3, "tallybook_operator"
    )
    codes = sorted("done" if isinstance(answer, dict) else code_of(answer) for answer in answers)
    assert codes == ["done", "not_found", "not_found"]
