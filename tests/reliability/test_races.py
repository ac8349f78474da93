"""Row 4: many at once on one thing, and exactly as many win as there is.

Each race is run again and again in one world, and the books are looked through after every round.

    TALLYBOOK_RELIABILITY_ROUNDS=1000 pytest tests/reliability/test_races.py
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import psycopg

from tallybook.worker import Worker
from tests.conftest import Database, assert_no_discrepancies
from tests.reliability.conftest import size
from tests.world import WAIT_SECONDS_MAX, Connection, World, code_of

ROUNDS = size("ROUNDS", 100)
CROWD = 50
TILLS = 20
WORKERS = 4
EVENTS_OF_A_ROUND = 40
REASON = "two stand before it"

Call = Callable[[Connection], Any]
AtOnce = Callable[[Sequence[Call]], list[Any]]


@contextmanager
def crowd(world: World, people: int) -> Iterator[AtOnce]:
    """As `world.at_once`, in sessions that stay: to open them takes longer than the race."""
    sessions = [world.session("tallybook_functions") for _ in range(people)]
    start = Barrier(people)

    def run(call: Call, session: Connection) -> Any:
        start.wait(WAIT_SECONDS_MAX)
        try:
            return call(session)
        except psycopg.Error as error:
            return error

    with ThreadPoolExecutor(people) as pool:
        yield lambda calls: list(pool.map(run, calls, sessions))


def told(results: Sequence[Any]) -> Counter[str]:
    """How often each answer was given: the code of a refusal, raised or returned, or `won`."""
    return Counter(
        code_of(result)
        if not isinstance(result, dict)
        else result["refusal"]["code"]
        if "refusal" in result
        else "won"
        for result in results
    )


def test_one_balance_and_fifty_redemptions(database: Database, world: World) -> None:
    template = world.template(cost=500, limit=None)
    with crowd(world, CROWD) as at_once:
        for _ in range(ROUNDS):
            user = world.user(points=999)
            results = at_once(
                [lambda s, user=user: world.redeem(user, template, through=s)] * CROWD
            )
            assert told(results) == {"won": 1, "insufficient_points": CROWD - 1}
            assert world.points(user) == 499
            assert world.count("coupons", "issued_to = %s", user) == 1
            assert_no_discrepancies(database)


async def test_four_workers_decide_every_event_once(database: Database, world: World) -> None:
    # Small sets, so that the workers meet often.
    workers = [Worker(database.dsn("tallybook_worker"), set_size=3) for _ in range(WORKERS)]
    try:
        for number in range(1, ROUNDS + 1):
            users = [uuid4() for _ in range(EVENTS_OF_A_ROUND // 2)]
            for _ in range(2):
                world.submit_batch(*(world.event(user) for user in users))
            await asyncio.gather(*(worker.drain() for worker in workers))
            decided = sum((worker.decided for worker in workers), Counter[str]())
            assert decided == {"validated": number * EVENTS_OF_A_ROUND}
            assert world.count("points_events", "validation_status <> 'validated'") == 0
            assert world.count("ledger.transfers") == number * EVENTS_OF_A_ROUND
            assert_no_discrepancies(database)
        # Otherwise nobody raced anybody.
        assert all(worker.decided for worker in workers)
    finally:
        for worker in workers:
            await worker.close()


def test_the_last_of_a_template(database: Database, world: World) -> None:
    users = [world.user(points=10 * ROUNDS) for _ in range(CROWD)]
    with crowd(world, CROWD) as at_once:
        for number in range(ROUNDS):
            stock = 1 + number % 3
            template = world.template(cost=10, limit=None)
            world.operator.execute(
                "update coupon_templates set max_redemptions = %s where template_id = %s",
                (stock, template),
            )
            results = at_once(
                [lambda s, u=user, t=template: world.redeem(u, t, through=s) for user in users]
            )
            assert told(results) == {"won": stock, "template_exhausted": CROWD - stock}
            assert world.count("coupons", "template_id = %s", template) == stock
            assert_no_discrepancies(database)
    assert sum(map(world.points, users)) == 10 * (CROWD * ROUNDS - world.count("coupons"))


def test_one_coupon_at_twenty_tills(database: Database, world: World) -> None:
    partner, template = "corner-cafe", world.template(cost=10, limit=None)
    world.operator.execute("update coupon_templates set partner_id = %s", (partner,))
    with crowd(world, TILLS) as at_once:
        for _ in range(ROUNDS):
            request = world.redemption(world.user(points=10), template)
            coupon = world.call("public.redeem_coupon", request, world.functions)["coupon_id"]
            # Somebody new at every till: nobody fails often enough to be made to wait.
            people = [uuid4() for _ in range(TILLS)]
            world.operator.execute(
                "insert into partner_members (partner_id, user_id) select %s, unnest(%s)",
                (partner, people),
            )
            results = at_once([consume(world, person, request["code_hash"]) for person in people])
            assert told(results) == {"won": 1, "coupon_not_valid": TILLS - 1}
            [status] = world.rows("select status from coupons where coupon_id = %s", (coupon,))
            assert status == {"status": "redeemed"}
            assert_no_discrepancies(database)


def consume(world: World, person: UUID, code_hash: str) -> Call:
    arguments = {"user_id": person, "code_hashes": [code_hash], "idempotency_key": uuid4().hex}
    return lambda session: world.call("public.consume_coupon", arguments, session)


def test_one_event_before_two_reviewers(database: Database, world: World) -> None:
    """The first decision stands, whichever it is, and its points are there or are not."""
    reviewers = [uuid4(), uuid4()]
    world.admin.execute("insert into system_admins (id) select unnest(%s)", (reviewers,))
    decisions = Counter[str]()
    with crowd(world, 2) as at_once:
        for number in range(ROUNDS):
            user, event = in_review(world)
            # Every other time both say the same, which must not count twice either.
            said = ("approved", "rejected" if number % 2 else "approved")
            results = at_once(
                [review(world, who, event, what) for who, what in zip(reviewers, said, strict=True)]
            )
            assert told(results) == {"won": 1, "already_reviewed": 1}
            [answer] = [result for result in results if isinstance(result, dict)]
            decisions[answer["decision"]] += 1
            approved = answer["decision"] == "approved"
            assert world.status(event) == ("validated" if approved else "rejected")
            assert world.points(user) == (20 if approved else 10)
            assert world.count("points_reviews", "event_id = %s", event) == 1
            assert_no_discrepancies(database)
    assert len(decisions) == 2, "one of the two always came first"


def in_review(world: World) -> tuple[UUID, str]:
    """A user with one event that counts, and one five seconds later that a person must look at."""
    user, at = uuid4(), world.now() - timedelta(hours=1)
    world.submit(user, at=at)
    event: str = world.submit(user, at=at + timedelta(seconds=5))["id"]
    world.validate()
    assert world.status(event) == "pending_review"
    return user, event


def review(world: World, reviewer: UUID, event: str, decision: str) -> Call:
    arguments = {
        "user_id": reviewer,
        "event_id": event,
        "decision": decision,
        "reason": REASON,
    }
    return lambda session: world.call("public.review_points_event", arguments, session)
