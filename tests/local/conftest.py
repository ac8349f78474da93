"""What the trials of the embedded server share."""

from __future__ import annotations

import os
import select
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def home(workshop: Path) -> Iterator[Path]:
    """A folder that every account can reach; pytest's own is closed to the others."""
    with tempfile.TemporaryDirectory(dir=workshop) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture
def await_exit() -> Callable[[int], None]:
    """Waits until a process has ended, be it a child or not; fails after 20 seconds."""

    def wait(pid: int) -> None:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            assert select.select([handle], [], [], 20)[0], f"process {pid} lives on"
        finally:
            os.close(handle)

    return wait


@pytest.fixture
def await_that() -> Callable[[Callable[[], object]], None]:
    """Waits until a condition holds; fails after 20 seconds."""

    def wait(holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    return wait
