"""`tallybook promotion`: codes are made, listed and ended by a command."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.cli.conftest import Run
from tests.world import World

CREATE = ("promotion", "create", "spring", "--type", "fixed", "--value", "10.5")


def redeem(world: World) -> None:
    world.call("public.redeem_promotion", {"user_id": uuid4(), "code": "SPRING"}, world.functions)


def test_a_code_is_made_and_listed(operate: Run, world: World) -> None:
    tried = operate(*CREATE, "--dry-run", "--json").json
    assert (tried["dry_run"], tried["code"], tried["discount_value"]) == (True, "SPRING", 10.5)
    assert world.count("coupon_codes") == 0
    made = operate(
        *CREATE, "--description", "Ten and a half", "--max-uses", "5", "--per-user", "2",
        "--tier", "starter", "--expire-after-days", "30", "--valid-from", "2020-01-01",
        "--expires", "2999-01-01", "--json",
    ).json  # fmt: skip
    assert (made["max_uses"], made["max_uses_per_user"], made["tier"]) == (5, 2, "starter")
    assert (made["credits_expire_after_days"], made["status"]) == (30, "active")
    assert made["created_by"] == "op@example.org"
    redeem(world)
    (listed,) = operate("promotion", "list", "--json").json["promotions"]
    assert (listed["code"], listed["times_used"]) == ("SPRING", 1)
    assert operate("promotion", "list", "--ended", "--json").json["promotions"] == []
    told = operate("promotion", "list", "--active", env={"COLUMNS": "100"}).output
    assert "SPRING" in told
    assert max(map(len, told.splitlines())) <= 100


def test_made_again_it_is_the_same_and_another_is_refused(operate: Run) -> None:
    assert operate(*CREATE).code == 0
    assert operate(*CREATE, "--json").json["replayed"] is True
    other = operate(*CREATE[:-1], "11", "--json")
    assert (other.code, other.json["refusal"]["code"]) == (1, "promotion_exists")


def test_a_code_is_ended(operate: Run, world: World) -> None:
    operate(*CREATE)
    end = ("promotion", "delete", "spring", "--reason", "Enough")
    assert operate(*end, "--dry-run", "--json").json["deleted"] is True
    assert world.count("coupon_codes") == 1
    redeem(world)
    done = operate(*end)
    assert (done.code, done.output.strip()) == (0, "SPRING is ended after 1 uses")
    assert world.count("audit_log", "reason = 'Enough' and actor = 'op@example.org'") == 1
    (listed,) = operate("promotion", "list", "--ended", "--json").json["promotions"]
    assert listed["status"] == "inactive"
    never = operate("promotion", "delete", "never", "--json")
    assert (never.code, never.json["refusal"]["code"]) == (1, "promotion_not_found")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--value", "0"), 1),
        (("--type", "percentage", "--value", "101"), 1),
        (("--tier", "gold"), 1),
        (("--valid-from", "2030-01-01", "--expires", "2029-01-01"), 1),
        (("--value", "much"), 2),
        (("--value", "NaN"), 2),
        (("--type", "gift"), 2),
        (("--max-uses", "0"), 2),
        (("--expires", "2h"), 2),
    ],
)
def test_what_is_no_promotion(operate: Run, options: tuple[str, ...], code: int) -> None:
    assert operate(*CREATE, *options).code == code
