"""What a function declares of itself: where it is, who may call it, which procedure it calls."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import msgspec

from tallybook.body import Body, has_decimals
from tallybook.caller import Caller
from tallybook.gather import Answer, Arguments
from tallybook.http import BODY_BYTES_MAX, Rendered
from tallybook.paths import Address
from tallybook.runtime import Runtime
from tallybook.settings import Settings

FUNCTIONS_PATH: Final = "/functions/v1/"

USERS: Final = frozenset({"authenticated"})
SERVICE: Final = frozenset({"service_role"})
ANYBODY: Final = frozenset({"anon"})

CUSTOMER: Final = "customer"
"""The body's attribute, sent as `user_id`, in which a program names whom it acts for."""

# The corridor makes these from the token and the request; a body's field must not stand in.
_MADE: Final = frozenset({"user_id", "request_id", "ip_address", "attestation"})


@dataclass(frozen=True, kw_only=True)
class Route:
    """What one function is. The procedure's arguments are the body's fields and what is added.

    `slug` names it at POST /functions/v1/<slug>; `paths` are other addresses of the same handler:
    `/api/redeem` (POST), `GET /balance`, `DELETE /coupons/{code}`. At GET and DELETE the body's
    fields come from the template and the query string, at POST from the template and the body.
    `body_bytes_max` is for a body that holds many; 413 beyond it.
    `callers` are the roles that may call it. Where users may, every request carries `user_id`,
    which is null for a program: the procedure knows by it who asks.
    `open` serves who sends no credentials, as role `anon`, which must be one of the callers.
    `on_behalf`: a program must say for which user it asks, who then is the argument `user_id`.
    The body has `customer: UUID | None = msgspec.field(name="user_id", default=None)` for it,
    in which a user may name themselves and nobody else.
    `enabled` says by the settings whether this is switched on; 503 where it is not.
    `key` is the body field that Idempotency-Key may stand in for; without `key_required` there may
    be none, and the request gets one of its own, so that it is done once whatever is lost. A
    request that `writes`, as every one with a key does, carries the `request_id` to be stored with
    what it caused.
    `attested` adds what the device's evidence in the headers is worth, as `attestation`.
    `address` adds a user's `ip_address`, when it is known.
    `prepare` adds arguments that must be made in Python, and those it makes from the body's
    `consumed` fields stand in for them. It may be a coroutine, which asks somebody first, within
    limits of its own.
    `before` is asked with the final arguments and may answer in the database's stead; `after` is
    told what the database answered, also again (`replayed`), but no refusals. They are for caches:
    when they fail or take too long, that is logged and the request goes on.
    `finish` turns the procedure's answer into the client's, `log` names what happened for the
    logs, `render` makes something else than JSON of the answer, unless it returns None.
    """

    slug: str
    procedure: str
    body: type[Body]
    callers: frozenset[str] = USERS
    open: bool = False
    on_behalf: bool = False
    paths: tuple[str, ...] = ()
    body_bytes_max: int = BODY_BYTES_MAX
    status: int = 200
    enabled: Callable[[Settings], bool] | None = None
    key: str | None = None
    key_required: bool = True
    writes: bool = False
    address: bool = False
    attested: bool = False
    consumed: frozenset[str] = frozenset()
    prepare: (
        Callable[[Runtime, Caller, Any], Mapping[str, Any] | Awaitable[Mapping[str, Any]]] | None
    ) = None
    before: Callable[[Runtime, Arguments], Awaitable[Answer | None]] | None = None
    after: Callable[[Runtime, Arguments, Answer], Awaitable[None]] | None = None
    finish: Callable[[Runtime, Caller, Any, Answer], Answer] | None = None
    log: Callable[[Caller, Any, Answer], Iterable[tuple[str, Mapping[str, Any]]]] | None = None
    render: Callable[[Any, Answer], Rendered | None] | None = None
    addresses: tuple[Address, ...] = field(init=False)
    decoder: msgspec.json.Decoder[Any] = field(init=False)
    has_decimals: bool = field(init=False)
    sent_as: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        def settle(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        body = self.body
        settle("addresses", tuple(Address.parse(text) for text in (self.path, *self.paths)))
        settle("decoder", msgspec.json.Decoder(body))
        settle("has_decimals", has_decimals(body))
        # By which name a client knows the argument that a procedure finds at fault.
        sent_as = dict(zip(body.__struct_fields__, body.__struct_encode_fields__, strict=True))
        settle("sent_as", {**sent_as, **({"user_id": "user_id"} if self.on_behalf else {})})
        settle("writes", self.writes or self.key is not None)
        self._check(sent_as)

    def _check(self, sent_as: Mapping[str, str]) -> None:
        """Raises ValueError where the declaration would open what must stay closed."""
        faults = {
            "a body's field stands in for what the corridor makes": _MADE
            & (set(sent_as) - self.consumed),
            "a field is consumed or named as key that the body does not have": (
                self.consumed | ({self.key} if self.key else set())
            )
            - set(sent_as),
            "GET must not write": self.writes
            and [str(each) for each in self.addresses if each.method == "GET"],
            # What a device signs is a body.
            "what is attested is POSTed": self.attested
            and [str(each) for each in self.addresses if each.method != "POST"],
            "a template names no field of the body": {
                name for each in self.addresses for name in each.parameters
            }
            - set(sent_as.values()),
            "who acts on behalf has a body with customer, sent as user_id, and no anon callers": (
                self.on_behalf
                and (sent_as.get(CUSTOMER) != "user_id" or not ANYBODY.isdisjoint(self.callers))
            ),
            "what is open is open to anon": self.open and ANYBODY.isdisjoint(self.callers),
            # To a procedure, both nobody and a program are a user_id that is null.
            "anon must not write": self.writes and not ANYBODY.isdisjoint(self.callers),
        }
        for fault, found in faults.items():
            if found:
                raise ValueError(f"{self.slug}: {fault} ({found})")

    @property
    def path(self) -> str:
        """Where it is served first of all."""
        return FUNCTIONS_PATH + self.slug

    @property
    def name(self) -> str:
        """The slug as an identifier: `coupons/verify` is coupons_verify."""
        return re.sub(r"\W", "_", self.slug)


def customer_of(caller: Caller, body: Any) -> UUID | None:
    """Whom a request of a route `on_behalf` is about, once the corridor has let it through."""
    return caller.user_id or getattr(body, CUSTOMER)
