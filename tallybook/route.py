"""What a function declares of itself: where it is, who may call it, which procedure it calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tallybook.body import Body
from tallybook.caller import Caller
from tallybook.gather import Answer
from tallybook.runtime import Runtime

FUNCTIONS_PATH: Final = "/functions/v1/"

USERS: Final = frozenset({"authenticated"})
SERVICE: Final = frozenset({"service_role"})


@dataclass(frozen=True, kw_only=True)
class Route:
    """What one function is. The procedure's arguments are the body's fields and what is added.

    `slug` names it at /functions/v1/<slug>; `paths` are other addresses of the same handler.
    `callers` are the roles that may call it. Where users may, every request carries `user_id`,
    which is null for a program: the procedure knows by it who asks.
    `key` is the body field that Idempotency-Key may stand in for. A request that `writes`, as every
    one with a key does, carries the `request_id` to be stored with what it caused.
    `attested` adds what the device's evidence in the headers is worth, as `attestation`.
    `address` adds a user's `ip_address`, when it is known.
    `prepare` adds arguments that must be made in Python, and those it makes from the body's
    `consumed` fields stand in for them; `finish` turns the procedure's answer into the client's,
    `log` names what happened for the logs.
    """

    slug: str
    procedure: str
    body: type[Body]
    callers: frozenset[str] = USERS
    paths: tuple[str, ...] = ()
    status: int = 200
    key: str | None = None
    writes: bool = False
    address: bool = False
    attested: bool = False
    consumed: frozenset[str] = frozenset()
    prepare: Callable[[Runtime, Caller, Any], Mapping[str, Any]] | None = None
    finish: Callable[[Runtime, Caller, Any, Answer], Answer] | None = None
    log: Callable[[Caller, Any, Answer], Iterable[tuple[str, Mapping[str, Any]]]] | None = None
    decoder: msgspec.json.Decoder[Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decoder", msgspec.json.Decoder(self.body))
        object.__setattr__(self, "writes", self.writes or self.key is not None)

    @property
    def path(self) -> str:
        """Where it is served first of all."""
        return FUNCTIONS_PATH + self.slug

    @property
    def name(self) -> str:
        """The slug as an identifier: `coupons/verify` is coupons_verify."""
        return re.sub(r"\W", "_", self.slug)
