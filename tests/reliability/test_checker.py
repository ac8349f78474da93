"""The checker finds what it is there for: true books and memories are falsified, one way each."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from uuid import uuid4

from tallybook.local.signing import LocalKeys
from tallybook.worker import Worker
from tests.conftest import Database
from tests.reliability.checker import Checker
from tests.reliability.conftest import templates
from tests.reliability.load import Load
from tests.reliability.machine import serving, working
from tests.reliability.model import FAIL, UNKNOWN, Life, Rows
from tests.reliability.operations import Consume, Redeem, Refund, Submit
from tests.world import World

OPERATIONS = 2000  # somebody among them has done everything

Falsify = Callable[[Life, Rows], None]


def lose_an_event(life: Life, rows: Rows) -> None:
    """Everything of it, so that the sums agree."""
    event = rows.caused_by(life.done(Submit)[0].key)[0]
    rows.events.remove(event)
    rows.transfers = [t for t in rows.transfers if t["source_id"] != event["id"]]
    add_to_the_sums(rows, -event["points_delta"])


def store_an_event_twice(life: Life, rows: Rows) -> None:
    """And award its points twice, in good order."""
    event = rows.caused_by(life.done(Submit)[0].key)[0]
    transfer = next(t for t in rows.transfers if t["source_id"] == event["id"])
    again = uuid4()
    rows.events.append({**event, "id": again, "transfer_id": again})
    rows.transfers.append({**transfer, "transfer_id": again, "source_id": again})
    add_to_the_sums(rows, event["points_delta"])


def store_it_twice_although_nobody_knows_of_once(life: Life, rows: Rows) -> None:
    unknown = life.done(Submit)[-1]
    rows.events.append({**rows.caused_by(unknown.key)[0], "id": uuid4(), "transfer_id": None})
    unknown.state = UNKNOWN


def answer_with_another_id(life: Life, rows: Rows) -> None:
    rows.caused_by(life.done(Submit)[0].key)[0]["id"] = uuid4()


def move_points_twice(life: Life, rows: Rows) -> None:
    rows.transfers.append(rows.transfers[0])


def move_no_points(life: Life, rows: Rows) -> None:
    rows.transfers.pop()


def award_something_nobody_did(life: Life, rows: Rows) -> None:
    life.operations.remove(life.done(Submit)[0])


def leave_an_event_undecided(life: Life, rows: Rows) -> None:
    rows.caused_by(life.done(Submit)[0].key)[0]["validation_status"] = "pending"


def lose_a_coupon(life: Life, rows: Rows) -> None:
    rows.coupons.pop()


def issue_a_coupon_twice(life: Life, rows: Rows) -> None:
    rows.coupons.append({**rows.coupons[0], "coupon_id": uuid4()})


def issue_another_coupon(life: Life, rows: Rows) -> None:
    rows.coupons[0]["coupon_id"] = uuid4()


def issue_another_code(life: Life, rows: Rows) -> None:
    rows.coupons[0]["code_hash"] = "0" * 64


def buy_although_it_was_refused(life: Life, rows: Rows) -> None:
    bought = life.done(Redeem)[0]
    bought.state, bought.answer = FAIL, {"code": "coupon_limit_reached"}


def use_a_coupon_under_another_key(life: Life, rows: Rows) -> None:
    used = next(c for c in rows.coupons if c["redemption_key"] == life.done(Consume)[0].key)
    used["redemption_key"] = "another"


def use_another_coupon(life: Life, rows: Rows) -> None:
    used = next(c for c in rows.coupons if c["redemption_key"] == life.done(Consume)[0].key)
    other = next(c for c in rows.coupons if c is not used)
    names = ("redemption_key", "status")
    before = {name: used[name] for name in names}
    used |= {name: other[name] for name in names}
    other |= before


def refund_twice(life: Life, rows: Rows) -> None:
    """In good order, and with all the points."""
    event = next(e for e in rows.events if e["event_type"] == "coupon_refund")
    transfer = next(t for t in rows.transfers if t["source_id"] == event["id"])
    again = uuid4()
    rows.events.append({**event, "id": again, "transfer_id": again})
    rows.transfers.append({**transfer, "transfer_id": again, "source_id": again})
    add_to_the_sums(rows, event["points_delta"])


def refund_nothing(life: Life, rows: Rows) -> None:
    event = next(e for e in rows.events if e["event_type"] == "coupon_refund")
    rows.events.remove(event)
    rows.transfers = [t for t in rows.transfers if t["source_id"] != event["id"]]
    add_to_the_sums(rows, -event["points_delta"])


def raise_the_balance(life: Life, rows: Rows) -> None:
    rows.balance += 10


def raise_the_cache(life: Life, rows: Rows) -> None:
    rows.cache["available_points"] += 10


def tell_more_than_could_be_earned(life: Life, rows: Rows) -> None:
    bought = life.done(Redeem)[-1]
    coupon = next(c for c in rows.coupons if str(c["coupon_id"]) == bought.answer["coupon_id"])
    coupon["points_remaining"] = bought.answer["points_remaining"] = 10_000


def tell_less_than_was_seen(life: Life, rows: Rows) -> None:
    bought = life.done(Redeem)[-1]
    coupon = next(c for c in rows.coupons if str(c["coupon_id"]) == bought.answer["coupon_id"])
    coupon["points_remaining"] = bought.answer["points_remaining"] = -10


def add_to_the_sums(rows: Rows, points: int) -> None:
    rows.balance += points
    rows.cache["available_points"] += points
    rows.cache["lifetime_earned"] += points


FALSIFICATIONS: list[Falsify] = [
    lose_an_event,
    store_an_event_twice,
    store_it_twice_although_nobody_knows_of_once,
    answer_with_another_id,
    move_points_twice,
    move_no_points,
    award_something_nobody_did,
    leave_an_event_undecided,
    lose_a_coupon,
    issue_a_coupon_twice,
    issue_another_coupon,
    issue_another_code,
    buy_although_it_was_refused,
    use_a_coupon_under_another_key,
    use_another_coupon,
    refund_twice,
    refund_nothing,
    raise_the_balance,
    raise_the_cache,
    tell_more_than_could_be_earned,
    tell_less_than_was_seen,
]


async def test_whatever_is_falsified_is_found(
    database: Database, world: World, seed: str, tmp_path: Path
) -> None:
    keys = LocalKeys.new()
    with (
        serving(database, keys, tmp_path / "serve.log") as port,
        working(database, tmp_path / "worker.log"),
    ):
        load = Load(seed, port, keys, templates(world))
        lives = load.lives("only", OPERATIONS)
        await load.run(lives)
    worker = Worker(database.dsn("tallybook_worker"))
    await worker.drain()
    await worker.close()
    checker = Checker(database.dsn("tallybook_operator"), keys.coupon_secret)
    books = checker.read(lives)
    assert [list(checker.of(life, books[life.user])) for life in lives] == [[] for _ in lives]
    life = next(life for life in lives if life.done(Consume) and life.done(Refund))
    for falsify in FALSIFICATIONS:
        memory, rows = deepcopy((life, books[life.user]))
        falsify(memory, rows)
        assert list(checker.of(memory, rows)), falsify.__name__


def test_more_than_what_was_settled_is_found(database: Database, world: World) -> None:
    user = world.user(points=10)
    checker = Checker(database.dsn("tallybook_operator"), LocalKeys.new().coupon_secret)
    checker.nothing_else()
    assert len(checker.faults) == 3, user
