"""For whom a procedure acts: somebody named, each once, and no longer than its transaction."""

from __future__ import annotations

from uuid import UUID, uuid4

import psycopg
import pytest

from tests.world import World

ACT = "select internal.act_for(%s::uuid[])"
SUBJECTS = "select coalesce(current_setting('tallybook.subjects', true), '')"


@pytest.mark.parametrize(
    "users",
    [[], [None], [uuid4(), None], [UUID(int=1)] * 2, [UUID(int=n % 3) for n in range(4)]],
    ids=["nobody", "no one", "somebody and no one", "one twice", "one of many twice"],
)
def test_whom_a_call_acts_for_is_named_once(world: World, users: list[UUID | None]) -> None:
    with pytest.raises(psycopg.errors.RaiseException):
        world.admin.execute(ACT, (users,))


def test_it_ends_with_the_transaction(world: World) -> None:
    session = world.session(autocommit=False)
    for users in ([uuid4()], [uuid4(), uuid4(), uuid4()]):
        session.execute(ACT, (users,))
        told = world.value(f"{SUBJECTS}::uuid[]", (), session)
        assert told == users
        session.commit()
        assert world.value(SUBJECTS, (), session) == ""
        session.commit()
