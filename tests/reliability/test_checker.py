"""The checker finds what it is there for: true books and memories are falsified, one way each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from tallybook.local.signing import LocalKeys
from tallybook.worker import Worker
from tests.conftest import Database
from tests.reliability.checker import Checker
from tests.reliability.conftest import templates
from tests.reliability.credits import Deduct, Give, Reserve
from tests.reliability.load import Load
from tests.reliability.machine import serving, tending, working
from tests.reliability.model import FAIL, UNKNOWN, Life, Operation, Rows
from tests.reliability.operations import Consume, Redeem, Submit
from tests.world import World

OPERATIONS = 2000  # for everything there is somebody among them who has done it

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


def lose_a_charge(life: Life, rows: Rows) -> None:
    """Everything of it, so that the sums agree."""
    charge = next(t for t in rows.credits if t["idempotency_key"] == life.done(Deduct)[0].key)
    drop_a_movement(rows, charge)
    add_to_the_credits(rows, -charge["amount"])
    rows.used += charge["amount"]


def charge_twice(life: Life, rows: Rows) -> None:
    """In good order."""
    charge = next(t for t in rows.credits if t["idempotency_key"] == life.done(Deduct)[0].key)
    transfer = next(t for t in rows.credit_transfers if t["transfer_id"] == charge["id"])
    again = uuid4()
    rows.credits.append({**charge, "id": again})
    rows.credit_transfers.append({**transfer, "transfer_id": again})
    add_to_the_credits(rows, charge["amount"])
    rows.used -= charge["amount"]


def charge_another_amount(life: Life, rows: Rows) -> None:
    life.done(Deduct)[0].answer["cost"] += 1


def tell_another_transaction(life: Life, rows: Rows) -> None:
    life.done(Give)[0].answer["transaction_id"] = str(uuid4())


def tell_another_balance(life: Life, rows: Rows) -> None:
    life.done(Reserve)[0].answer["balance"] += 1


def charge_nobody_asked_for(life: Life, rows: Rows) -> None:
    life.operations.remove(life.done(Deduct)[-1])


def give_although_it_was_refused(life: Life, rows: Rows) -> None:
    given = life.done(Give)[-1]
    given.state, given.answer = FAIL, {"code": "forbidden"}


def refuse_who_has_enough(life: Life, rows: Rows) -> None:
    detail = "Insufficient credits. Balance: 10000, Required: 10001"
    life.operations.append(
        Operation(Deduct(), "k", {}, FAIL, {"code": "insufficient_credits", "detail": detail})
    )


def expire_what_was_settled(life: Life, rows: Rows) -> None:
    next(h for h in rows.holds if h["status"] == "settled")["status"] = "expired"


def settle_what_was_released(life: Life, rows: Rows) -> None:
    next(h for h in rows.holds if h["status"] == "released")["status"] = "settled"


def lose_a_reservation(life: Life, rows: Rows) -> None:
    rows.reservations.pop()


def hold_more(life: Life, rows: Rows) -> None:
    rows.credit_held += 1


def raise_the_lots(life: Life, rows: Rows) -> None:
    rows.lots += 1


def raise_the_cached_credits(life: Life, rows: Rows) -> None:
    rows.credit_cache += 1


def forget_what_was_used(life: Life, rows: Rows) -> None:
    rows.used -= 1


def move_credits_twice(life: Life, rows: Rows) -> None:
    rows.credit_transfers.append(rows.credit_transfers[0])


def drop_a_movement(rows: Rows, charge: dict[str, Any]) -> None:
    rows.credits.remove(charge)
    rows.credit_transfers = [t for t in rows.credit_transfers if t["transfer_id"] != charge["id"]]


def add_to_the_credits(rows: Rows, amount: Decimal) -> None:
    rows.credit_balance += amount
    rows.credit_cache += amount
    rows.lots += amount


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
    lose_a_charge,
    charge_twice,
    charge_another_amount,
    tell_another_transaction,
    tell_another_balance,
    charge_nobody_asked_for,
    give_although_it_was_refused,
    refuse_who_has_enough,
    expire_what_was_settled,
    settle_what_was_released,
    lose_a_reservation,
    hold_more,
    raise_the_lots,
    raise_the_cached_credits,
    forget_what_was_used,
    move_credits_twice,
]


async def test_whatever_is_falsified_is_found(
    database: Database, world: World, seed: str, tmp_path: Path
) -> None:
    keys = LocalKeys.new()
    with (
        serving(database, keys, tmp_path / "serve.log") as port,
        working(database, tmp_path / "worker.log"),
        tending(database),
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
    for falsify in FALSIFICATIONS:
        memory, rows = falsified(falsify, lives, books)
        assert list(checker.of(memory, rows)), falsify.__name__


def falsified(falsify: Falsify, lives: list[Life], books: dict[UUID, Rows]) -> tuple[Life, Rows]:
    """What the first one who has done it remembers, and what the books say then."""
    for life in lives:
        memory, rows = deepcopy((life, books[life.user]))
        with suppress(StopIteration, IndexError):
            falsify(memory, rows)
            return memory, rows
    raise AssertionError(f"nobody has done what it takes to {falsify.__name__}")


def test_more_than_what_was_settled_is_found(database: Database, world: World) -> None:
    user = world.user(points=10)
    checker = Checker(database.dsn("tallybook_operator"), LocalKeys.new().coupon_secret)
    checker.nothing_else()
    assert len(checker.faults) == 3, user
