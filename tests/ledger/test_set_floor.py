"""How far an account may fall."""

from uuid import UUID, uuid4

import psycopg
import pytest

from tests.world import World, refused


def set_floor(world: World, user: UUID, floor: int, account: str = "points") -> None:
    world.admin.execute("select ledger.set_floor(%s, %s, %s)", (user, account, floor))


def floor(world: World, user: UUID) -> int:
    found: int = world.value("select floor from ledger.accounts where book_id = %s", (user,))
    return found


def test_an_account_is_opened_with_its_floor(world: World) -> None:
    user = uuid4()
    set_floor(world, user, -100)
    assert (floor(world, user), world.points(user)) == (-100, 0)


def test_an_account_keeps_what_it_has(world: World) -> None:
    user = world.user(points=50)
    for lowest in (-100, 0, 50):
        set_floor(world, user, lowest)
        assert (floor(world, user), world.points(user)) == (lowest, 50)


def test_the_same_floor_again_changes_nothing(world: World) -> None:
    user = uuid4()
    set_floor(world, user, -100)
    before = world.rows("select * from ledger.accounts")
    set_floor(world, user, -100)
    assert world.rows("select * from ledger.accounts") == before


def test_what_lies_below_already_is_refused(world: World) -> None:
    user = world.user(points=50)
    with refused("insufficient_funds", 400, "Available: 50, Required: 51"):
        set_floor(world, user, 51)
    world.admin.execute(
        "select ledger.hold(%(u)s, %(u)s, 'points', 40, 'test', %(u)s, 'infinity')", {"u": user}
    )
    with refused("insufficient_funds", 400, "Available: 10, Required: 11"):
        set_floor(world, user, 11)
    with refused("insufficient_funds", 400, "Available: 0, Required: 1"):
        set_floor(world, uuid4(), 1)
    assert floor(world, user) == 0


@pytest.mark.parametrize("account", ["points.issued", "nothing"])
def test_what_keeps_no_balance_has_no_floor(world: World, account: str) -> None:
    with pytest.raises(psycopg.errors.RaiseException):
        set_floor(world, uuid4(), 0, account)


def test_it_waits_for_who_moves_the_same_account(world: World) -> None:
    user = world.user(points=50)
    mover = world.session(autocommit=False)
    mover.execute(
        "select ledger.hold(%(u)s, %(u)s, 'points', 40, 'test', %(u)s, 'infinity')", {"u": user}
    )
    with world.in_background(
        lambda session: session.execute("select ledger.set_floor(%s, 'points', 20)", (user,)),
        world.session(),
    ) as waiting:
        mover.commit()
        with refused("insufficient_funds", 400, "Available: 10, Required: 20"):
            waiting.result()
