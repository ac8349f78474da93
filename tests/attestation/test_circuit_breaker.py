"""A service that keeps failing is left alone, and asked again by one call at a time."""

from __future__ import annotations

import asyncio

import pytest

from tallybook.attestation.circuit_breaker import FAILURES_MAX, OPEN_SECONDS, CircuitBreaker
from tallybook.attestation.evidence import Rejected, Unavailable
from tests.attestation.play import Clock


def fail(breaker: CircuitBreaker) -> None:
    with pytest.raises(Unavailable, match="away"), breaker.call():
        raise Unavailable("away")


def is_open(breaker: CircuitBreaker) -> bool:
    """Without a call when it is open; with a good one when it is not."""
    try:
        with breaker.call():
            return False
    except Unavailable as error:
        assert (error.reason, error.ours) == ("circuit_open", False)
        return True


def opened(clock: Clock) -> CircuitBreaker:
    breaker = CircuitBreaker(clock)
    for _ in range(FAILURES_MAX):
        fail(breaker)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row():
    breaker = CircuitBreaker(Clock())
    for _ in range(FAILURES_MAX - 1):
        fail(breaker)
    assert not is_open(breaker)
    for _ in range(FAILURES_MAX):
        fail(breaker)
    assert is_open(breaker)


def test_a_rejection_is_an_answer():
    breaker = CircuitBreaker(Clock())
    for _ in range(FAILURES_MAX - 1):
        fail(breaker)
    with pytest.raises(Rejected), breaker.call():
        raise Rejected("token_undecodable")
    for _ in range(FAILURES_MAX - 1):
        fail(breaker)
    assert not is_open(breaker)


def test_after_a_while_one_call_probes_and_closes_it():
    clock = Clock()
    breaker = opened(clock)
    clock.now = OPEN_SECONDS - 0.1
    assert is_open(breaker)
    clock.now = OPEN_SECONDS
    with breaker.call() as probe:
        assert probe
        assert is_open(breaker)
    with breaker.call() as probe:
        assert not probe


def test_a_probe_that_fails_opens_it_again():
    clock = Clock()
    breaker = opened(clock)
    clock.now = OPEN_SECONDS
    fail(breaker)
    clock.now = 2 * OPEN_SECONDS - 0.1
    assert is_open(breaker)
    clock.now = 2 * OPEN_SECONDS
    assert not is_open(breaker)


def test_a_probe_that_is_cancelled_leaves_the_next_one_its_turn():
    clock = Clock()
    breaker = opened(clock)
    clock.now = OPEN_SECONDS
    with pytest.raises(asyncio.CancelledError), breaker.call():
        raise asyncio.CancelledError
    with breaker.call() as probe:
        assert probe
