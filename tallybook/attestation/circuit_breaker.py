"""Leaving a service alone that keeps failing, and asking it now and then whether it is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tallybook.attestation.evidence import Rejected, Unavailable

FAILURES_MAX: Final = 5
OPEN_SECONDS: Final = 30.0


class CircuitBreaker:
    """Open after FAILURES_MAX calls in a row failed; then one call every OPEN_SECONDS probes.

    A call that ends in Unavailable has failed. Rejected is an answer like any other, and a call
    that is cancelled says nothing.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._failures = 0
        self._closed_at = -float("inf")
        self._probing = False

    @contextmanager
    def call(self) -> Iterator[bool]:
        """Around one call; yields whether it is the probe. Raises Unavailable `circuit_open`."""
        probe = self._failures >= FAILURES_MAX
        if probe:
            if self._probing or self._monotonic() < self._closed_at:
                raise Unavailable("circuit_open")
            self._probing = True
        try:
            yield probe
        except Unavailable:
            self._failures += 1
            self._closed_at = self._monotonic() + OPEN_SECONDS
            raise
        except Rejected:
            self._failures = 0
            raise
        else:
            self._failures = 0
        finally:
            if probe:
                self._probing = False
