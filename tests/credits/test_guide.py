"""docs/credits.md names what there is: every address, every variable, every view for alerts."""

from __future__ import annotations

import inspect
import re

import pytest

from tallybook import settings
from tallybook.schema import ROOT
from tallybook.server import find_functions

GUIDE = (ROOT / "docs/credits.md").read_text()
CREDITS = re.compile(r"/api/v1/(admin/)?credits/(?P<rest>.+)")
ADDRESSES = sorted(
    {
        match["rest"]
        for handler in find_functions(ROOT)
        for address in handler.route.addresses  # type: ignore[attr-defined]
        if (match := CREDITS.fullmatch(address.template))
    }
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_address_is_in_the_guide(address: str) -> None:
    # The guide says `…/usage/stats`, `by-model`: what comes last is what tells one from another.
    last = address.rpartition("/")[2]
    assert re.search(rf"[`/]{re.escape(last)}[`?\s]", GUIDE), address


def test_every_variable_is_in_the_guide() -> None:
    names = set(
        re.findall(r'"((?:CREDIT|ENCRYPTION|OPENROUTER)_[A-Z_]+)"', inspect.getsource(settings))
    )
    assert len(names) >= 6 and names <= set(re.findall(r"[A-Z_]{8,}", GUIDE))


def test_every_signal_is_in_the_guide() -> None:
    rooms = {room: ROOT / "sql" / room for room in ("50_credits", "80_operations")}
    made = {path.stem for path in rooms["50_credits"].glob("credit_*.sql")}
    views = {n for n in made if (rooms["80_operations"] / f"report_{n}.sql").exists()}
    assert len(views) == 3 and all(f"`{view}`" in GUIDE for view in views)
