"""The examples tell the truth: what `make examples` runs, in a clone of the tests' database."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import transcript
from examples.cdnow import run as cdnow
from tests.world import World


@pytest.mark.parametrize("script", transcript.scripts(), ids=lambda script: script.stem)
def test_a_script_prints_what_is_committed(world: World, script: Path) -> None:
    assert transcript.check(world.database.dsn(), script) == ""


def test_another_output_is_a_difference(world: World, tmp_path: Path) -> None:
    script = tmp_path / "one.sql"
    script.write_text("select 1 as one;\n")
    script.with_suffix(".out").write_text("2\n")
    assert "-2" in transcript.check(world.database.dsn(), script).splitlines()


def test_cdnow_customers_buy_what_they_can_afford(world: World) -> None:
    outcome = cdnow.run(world.database.dsn)
    assert (outcome.customers, outcome.orders, outcome.coupons) == (2357, 6919, 74)
    assert outcome.as_it_should
