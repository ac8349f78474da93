"""Whose address counts: what our own proxies wrote, and never what the client can write."""

from __future__ import annotations

import pytest

from tallybook.address import client_address
from tallybook.settings import Settings

PEER = ("203.0.113.7", 4711)


def seen(
    *lines: str, by: str | None = "x-forwarded-for", hops: int = 1, peer: object = PEER
) -> str | None:
    """The address of a request with these lines of the header."""
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in lines]
    scope = {"headers": [(b"host", b"here"), *headers], "client": peer}
    return client_address(scope, Settings(client_address=by, trusted_hops=hops))


def test_unless_the_environment_says_how_no_address_is_known() -> None:
    assert seen("203.0.113.9", by=None) is None


def test_the_peer_is_who_holds_the_other_end() -> None:
    assert seen("203.0.113.9", by="peer") == "203.0.113.7"
    assert seen(by="peer", peer=None) is None
    assert seen(by="peer", peer=("unix socket", 0)) is None


@pytest.mark.parametrize(
    ("lines", "hops", "address"),
    [
        (["198.51.100.1"], 1, "198.51.100.1"),
        (["10.9.9.9, 198.51.100.1"], 1, "198.51.100.1"),
        (["10.9.9.9 ,198.51.100.1 , 192.0.2.5"], 2, "198.51.100.1"),
        (["10.9.9.9", "198.51.100.1"], 1, "198.51.100.1"),
        (["10.9.9.9, 198.51.100.1", "192.0.2.5"], 2, "198.51.100.1"),
        # Fewer entries than there are proxies: it did not come through all of them.
        (["198.51.100.1"], 2, None),
        ([], 1, None),
        ([""], 1, None),
        # The last entry is the proxy's: when it is none, no other is looked for.
        (["10.9.9.9, unknown"], 1, None),
        (["10.9.9.9,"], 1, None),
    ],
)
def test_the_entry_that_counts_is_what_our_outermost_proxy_wrote(
    lines: list[str], hops: int, address: str | None
) -> None:
    assert seen(*lines, hops=hops) == address


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("198.51.100.1:443", "198.51.100.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("198.51.100.256", None),
        ("198.51.100", None),
        ("198.51.100.0/24", None),
        ("3325256705", None),
        ("'; drop table points_events; --", None),
        ("[", None),
        ("\xb9\xb2\xb3.1.1.1", None),
    ],
)
def test_an_address_has_one_form_and_what_is_none_is_nothing(
    written: str, address: str | None
) -> None:
    assert seen(written) == address
