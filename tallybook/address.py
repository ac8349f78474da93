"""Where a request came from, when the environment says how that can be known."""

from __future__ import annotations

import ipaddress
from typing import Final

from tallybook.http import Scope
from tallybook.settings import Settings

PEER: Final = "peer"


def client_address(scope: Scope, settings: Settings) -> str | None:
    """The client's IP address in its shortest form; None when it cannot be known.

    In a header that proxies add to, each at the end, the entry that counts is the one that the
    outermost of our own proxies wrote. What stands left of it the client can write itself.
    """
    source = settings.client_address
    if source is None:
        return None
    if source == PEER:
        peer = scope.get("client")
        return _address(peer[0]) if peer else None
    name = source.encode()
    # A proxy may also add a line of its own: several lines of one name are one list.
    lines = [value.decode("latin-1") for header, value in scope["headers"] if header == name]
    entries = ",".join(lines).split(",")
    hops = settings.trusted_hops
    return _address(entries[-hops]) if len(entries) >= hops else None


def _address(text: str) -> str | None:
    """One entry, with or without a port; an IPv6 address with a port stands in brackets."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        # A zone says something on the proxy's own machine only.
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A socket for both families shows IPv4 like this, and it is the same client.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
