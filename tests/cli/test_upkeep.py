"""`tallybook upkeep` does once what the worker does beside validating."""

from __future__ import annotations

from datetime import timedelta

from tallybook.worker import UPKEEP
from tests.cli.conftest import Run
from tests.world import World


def test_every_procedure_is_called(operate: Run, world: World) -> None:
    world.freeze()
    world.submit(world.user())
    world.pass_time(timedelta(days=8))
    tried = operate("upkeep", "--dry-run", "--json").json["upkeep"]
    assert [row["procedure"] for row in tried] == [upkeep.procedure for upkeep in UPKEEP]
    assert world.count("used_nonces") == 1
    done = operate("upkeep", "--json").json["upkeep"]
    assert done == tried
    assert {row["procedure"]: row["count"] for row in done}["cleanup_expired_nonces"] == 1
    assert world.count("used_nonces") == 0
    assert operate("upkeep").code == 0
