"""Importing events: at the times at which they count, once, and each by itself."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.world import NOW, Connection, World, refused

SOURCE = "shop.csv"
JANUARY = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _frozen(world: World) -> None:
    world.freeze()


def line(number: int, user: UUID, points: int, days: float = 0, **fields: Any) -> dict[str, Any]:
    """One event of an import, `days` after the first of January 2024."""
    return {
        "line": number,
        "user_id": str(user),
        "event_type": "history_import",
        "event_time": (JANUARY + timedelta(days=days)).isoformat(),
        "points": points,
        **fields,
    }


def bring(
    world: World, *lines: dict[str, Any], source: str = SOURCE, through: Connection | None = None
) -> dict[str, Any]:
    answer: dict[str, Any] = world.value(
        "select public.import_points_events(%s, %s::jsonb)",
        (source, json.dumps(lines)),
        through or world.operator,
    )
    return answer


def codes(answer: dict[str, Any]) -> dict[int, str]:
    """Line number -> code of what was refused."""
    return {refusal["line"]: refusal["code"] for refusal in answer["refused"]}


def balance(world: World, user: UUID, at: datetime) -> int:
    value: int = world.value("select ledger.balance_as_of(%s, 'points', %s)", (user, at))
    return value


# It does


def test_points_come_in_at_the_time_they_were_earned(world: World) -> None:
    user = world.user()
    answer = bring(world, line(2, user, 100), line(3, user, 30, days=10), line(4, user, -50, 20))
    assert answer == {"imported": 3, "points": 80, "known": 0, "refused": []}
    assert world.cache(user) == (80, 0, 130, 50)
    assert [balance(world, user, JANUARY + timedelta(days=d)) for d in (-1, 0, 9, 10, 20)] == [
        0, 100, 100, 130, 80,
    ]  # fmt: skip
    rows = world.rows("select * from ledger.transfers where book_id = %s", (user,))
    assert {row["recorded_at"] for row in rows} == {NOW}


def test_an_imported_event_says_where_it_comes_from(world: World) -> None:
    user = world.user()
    bring(world, line(7, user, 5, days=1, event_type="workout", key="order 1"))
    (event,) = world.rows("select * from points_events where user_id = %s", (user,))
    assert event["validation_status"] == "validated"
    assert event["validated_by"] == f"import:{SOURCE}"
    assert event["validated_at"] == event["created_at"] == NOW
    assert event["event_time"] == JANUARY + timedelta(days=1)
    assert (event["event_type"], event["proof_type"], event["points_delta"]) == (
        "workout", "automatic", 5,
    )  # fmt: skip
    assert (event["nonce"], event["proof_payload"]) == ("order 1", {"line": 7})
    assert event["transfer_id"] == event["id"]


def test_an_event_without_points_is_kept_and_moves_nothing(world: World) -> None:
    user = world.user()
    assert bring(world, line(2, user, 0))["imported"] == 1
    assert world.count("points_events", "user_id = %s and transfer_id is null", user) == 1
    assert world.count("ledger.transfers", "book_id = %s", user) == 0
    assert bring(world, line(2, user, 0))["known"] == 1


def test_spending_may_come_before_the_earning_in_the_file(world: World) -> None:
    user = world.user()
    answer = bring(world, line(2, user, -50, days=5), line(3, user, 50, days=1))
    assert answer["imported"] == 2
    assert world.points(user) == 0


def test_imported_points_are_spent_like_any_others(world: World) -> None:
    user = world.user()
    bring(world, line(2, user, 600))
    assert world.redeem(user, world.template(cost=500))["points_remaining"] == 100


# It replays


def test_what_is_there_already_is_known(world: World) -> None:
    lines = [line(n, uuid4(), n) for n in range(2, 30)]
    assert bring(world, *lines)["imported"] == 28
    assert bring(world, *lines, line(40, uuid4(), 1)) == {
        "imported": 1, "points": 1, "known": 28, "refused": [],
    }  # fmt: skip


def test_equal_events_are_told_apart_by_their_occurrence(world: World) -> None:
    user = world.user()
    twice = [line(2, user, 5), line(3, user, 5, occurrence=2)]
    assert bring(world, *twice)["imported"] == 2
    assert bring(world, *twice, line(4, user, 5, occurrence=3)) == {
        "imported": 1, "points": 5, "known": 2, "refused": [],
    }  # fmt: skip
    assert world.points(user) == 15


def test_the_same_event_twice_in_one_call_is_one(world: World) -> None:
    user = world.user()
    answer = bring(world, line(2, user, 5), line(3, user, 5), line(4, user, -9), line(5, user, -9))
    assert (answer["imported"], answer["known"]) == (1, 1)
    assert codes(answer) == {4: "insufficient_funds", 5: "insufficient_funds"}
    assert world.points(user) == 5


def test_another_source_is_another_event(world: World) -> None:
    user = world.user()
    assert bring(world, line(2, user, 5))["imported"] == 1
    assert bring(world, line(2, user, 5), source="other.csv")["imported"] == 1
    assert world.points(user) == 10


def test_a_key_is_one_event_for_ever(world: World) -> None:
    user = world.user()
    assert bring(world, line(2, user, 5, key="a"), line(3, user, 5, key="b"))["imported"] == 2
    answer = bring(
        world,
        line(2, user, 5, key="a"),
        line(3, user, 6, key="b"),
        line(4, user, 7, key="c"),
        line(5, user, 8, key="c"),
    )
    assert (answer["imported"], answer["known"]) == (1, 1)
    assert codes(answer) == {3: "nonce_reused", 5: "nonce_reused"}
    assert world.points(user) == 17


# It refuses


def test_a_refused_line_leaves_its_neighbours_alone(world: World) -> None:
    user = world.user()
    answer = bring(
        world,
        line(2, user, 10),
        line(3, user, 10, event_type="levitation"),
        line(4, user, 10, event_type="redeem_coupon"),
        line(5, user, 10, event_time=(NOW + timedelta(minutes=11)).isoformat()),
        line(6, user, 2**31),
        {**line(7, user, 10), "user_id": None},
        line(8, user, 10, event_time="infinity"),
        line(9, user, 20, days=1, event_type="admin_award"),
    )
    assert (answer["imported"], answer["points"]) == (2, 30)
    assert codes(answer) == {
        3: "unknown_event_type",
        4: "event_type_not_submittable",
        5: "event_in_future",
        6: "invalid_body",
        7: "invalid_body",
        8: "invalid_body",
    }
    assert world.points(user) == 30


def test_spending_needs_points_at_its_own_time(world: World) -> None:
    user = world.user()
    answer = bring(
        world,
        line(2, user, 100, days=10),
        line(3, user, -10, days=5),  # before there was anything
        line(4, user, -80, days=20),
        line(5, user, -30, days=30),  # 20 are left
        line(6, user, -20, days=40),
    )
    assert codes(answer) == {3: "insufficient_funds", 5: "insufficient_funds"}
    assert world.points(user) == 0


def test_spending_put_into_the_past_leaves_what_was_spent_since(world: World) -> None:
    user = world.user()
    bring(world, line(2, user, 100), line(3, user, -90, days=10), line(4, user, 90, days=20))
    answer = bring(world, line(5, user, -11, days=5), line(6, user, -10, days=5))
    assert codes(answer) == {5: "insufficient_funds"}
    assert balance(world, user, JANUARY + timedelta(days=15)) == 0


def test_what_is_held_is_not_spent(world: World) -> None:
    user = world.user()
    bring(world, line(2, user, 100))
    world.rows(
        "select ledger.hold(%s, %s, 'points', 60, 'test', %s, %s)",
        (user, uuid4(), uuid4(), NOW + timedelta(days=1)),
    )
    answer = bring(world, line(3, user, -50, days=1), line(4, user, -40, days=2))
    assert codes(answer) == {3: "insufficient_funds"}
    assert world.points(user) == 0


def test_the_call_is_refused_as_a_whole_when_it_is_no_chunk(world: World) -> None:
    user = world.user()
    with refused("invalid_body", 400, "events: "):
        bring(world, *(line(n, user, 1, occurrence=n) for n in range(1001)))
    for source in ("", "x" * 101, "two\nlines"):
        with refused("invalid_body", 400, "source: "):
            bring(world, line(2, user, 1), source=source)
    assert world.count("points_events") == 0


@pytest.mark.parametrize(
    "role", ["tallybook_functions", "tallybook_worker", "authenticated", "service_role"]
)
def test_only_an_operator_imports(world: World, role: str) -> None:
    world.admin.execute(f"set role {role}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        bring(world, line(2, uuid4(), 1), through=world.admin)


@pytest.mark.parametrize("seed", range(5))
def test_history_never_goes_below_zero_and_nothing_is_refused_for_nothing(
    world: World, seed: int
) -> None:
    chance = random.Random(seed)
    users = [world.user() for _ in range(10)]
    accepted: dict[UUID, list[tuple[int, int]]] = {user: [] for user in users}
    for call in range(3):
        events = [
            (chance.choice(users), chance.randint(-60, 60), chance.randint(0, 12))
            for _ in range(60)
        ]
        lines = [line(n, *event, key=f"{call} {n}") for n, event in enumerate(events)]
        # The model: all that is earned, then what is spent, in the order of its time.
        expected = set()
        for n in sorted(range(60), key=lambda n: (events[n][1] < 0, events[n][2], n)):
            user, points, day = events[n]
            path = [*accepted[user], (day, points)]
            if points < 0 and any(
                sum(p for d, p in path if d <= until) < 0 for until in range(day, 13)
            ):
                expected.add(n)
            else:
                accepted[user] = path
        assert set(codes(bring(world, *lines))) == expected
    for user in users:
        for day in range(13):
            until = JANUARY + timedelta(days=day)
            assert balance(world, user, until) == sum(p for d, p in accepted[user] if d <= day) >= 0


# It races


def test_two_imports_of_one_file_at_once_are_one(world: World) -> None:
    users = [world.user() for _ in range(200)]
    lines = [line(n, users[n % 200], 10 if n < 400 else -5, days=n) for n in range(600)]
    answers = world.at_once([lambda c: bring(world, *lines, through=c)] * 4, "tallybook_operator")
    results = [a for a in answers if isinstance(a, dict)]
    assert len(results) == 4, answers
    assert sum(a["imported"] for a in results) == 600
    assert sum(a["known"] for a in results) == 1800
    assert world.count("points_events") == world.count("ledger.transfers") == 600
    assert all(world.points(user) == 15 for user in users)


def test_the_second_waits_for_the_first_and_finds_its_events(world: World) -> None:
    """New users have no account to wait at, so the second is far in when it learns of the first."""
    user, first = world.user(), world.session("tallybook_operator", autocommit=False)
    lines = [line(2, user, 10), line(3, user, -10, days=1), line(4, user, 0)]
    assert bring(world, *lines, through=first)["imported"] == 3
    more = [*lines, line(5, user, -10, days=2), line(6, user, 3, days=3)]
    with world.in_background(lambda c: bring(world, *more, through=c), world.operator) as second:
        first.commit()
    answer = second.result()
    assert (answer["imported"], answer["points"], answer["known"]) == (1, 3, 3)
    assert codes(answer) == {5: "insufficient_funds"}


def test_spending_races_with_a_redemption_and_one_of_them_wins(world: World) -> None:
    user, template = world.user(), world.template(cost=100)
    bring(world, line(2, user, 100))
    buyer = world.session("tallybook_functions", autocommit=False)
    world.redeem(user, template, through=buyer)
    spending = line(3, user, -100, days=1)
    with world.in_background(lambda c: bring(world, spending, through=c), world.operator) as late:
        buyer.commit()
    assert codes(late.result()) == {3: "insufficient_funds"}
    assert world.points(user) == 0
