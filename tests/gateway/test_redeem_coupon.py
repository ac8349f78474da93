"""redeem-coupon over HTTP: the code is shown, once more to whoever lost it, and kept nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from tallybook.coupon_code import normalise
from tests.conftest import Database
from tests.gateway.client import Client
from tests.stack import Stack, running
from tests.world import World


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


def rich_user(stack: Stack, world: World, points: int = 500) -> Client:
    return Client(stack, user=world.user(points=points))


def test_points_become_a_coupon(stack: Stack, world: World) -> None:
    user, template = rich_user(stack, world, 700), world.template(cost=500)
    answer = user.redeem(template)
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["success"], shown["points_remaining"]) == (True, 200)
    assert normalise(shown["coupon_code"])
    assert set(shown) == {
        *("success", "coupon_code", "coupon_id", "expires_at", "points_remaining", "points_cost"),
    }
    assert world.cache(user.user) == (200, 0, 700, 500)


def test_a_replay_shows_the_same_code(stack: Stack, world: World) -> None:
    user, template = rich_user(stack, world), world.template(cost=500)
    first, again = user.redeem(template, "key-1"), user.redeem(template, "key-1")
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert world.count("coupons") == 1


def test_the_missions_path_is_the_same_door(stack: Stack, world: World) -> None:
    user, template = rich_user(stack, world), world.template(cost=500)
    body = {"template_id": str(template), "idempotency_key": "key-1"}
    first = user.post("/api/redeem", body)
    assert first.status_code == 200
    assert user.redeem(template, "key-1").json() == first.json()


def test_refusals_have_their_status(stack: Stack, world: World) -> None:
    user, template = rich_user(stack, world, 1200), world.template(cost=500)
    closed = world.template(cost=10, active=False)

    def outcome(*arguments: object) -> tuple[int, str]:
        answer = user.redeem(*arguments)  # type: ignore[arg-type]
        return answer.status_code, answer.json()["code"]

    assert outcome(uuid4()) == (404, "template_not_found")
    assert outcome(closed) == (404, "template_not_found")
    assert user.redeem(template, "used").status_code == 200
    assert outcome(template) == (403, "coupon_limit_reached")
    assert outcome(world.template(cost=5), "used") == (409, "nonce_reused")
    answer = user.redeem(world.template(cost=701))
    assert (answer.status_code, answer.json()["code"]) == (400, "insufficient_points")
    assert answer.json()["detail"] == "Available: 700, Required: 701"


def test_of_fifty_redemptions_of_one_balance_one_wins(stack: Stack, world: World) -> None:
    user, template = rich_user(stack, world, 500), world.template(cost=500, limit=None)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: user.redeem(template), range(50)))
    won = [answer for answer in answers if answer.status_code == 200]
    lost = {(a.status_code, a.json()["code"]) for a in answers if a.status_code != 200}
    assert (len(won), lost) == (1, {(400, "insufficient_points")})
    assert (world.count("coupons"), world.points(user.user)) == (1, 0)


def test_the_code_is_written_nowhere(
    stack: Stack, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    from tallybook import logs

    user, template = rich_user(stack, world), world.template(cost=500)
    code = user.redeem(template).json()["coupon_code"]
    spellings = re.compile("|".join((re.escape(code), code.replace("-", ""), normalise(code))))
    logs.flush()
    assert not spellings.search("".join(capfd.readouterr()))
    for table in world.rows(
        "select format('%I.%I', schemaname, tablename) as name from pg_tables"
        " where schemaname in ('public', 'ledger', 'internal')"
    ):
        for row in world.rows(f"select t::text as text from {table['name']} as t"):
            assert not spellings.search(row["text"]), table["name"]
