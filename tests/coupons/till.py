"""A partner's till: who stands at it, what is shown there, and what the till makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from tests.world import Connection, World

COFFEE = "coffee-house"
NOT_VALID = {
    "refusal": {
        "code": "coupon_not_valid",
        "status": 404,
        "detail": "This code is not valid",
        "hint": "Check the code for a typing error.",
    }
}


@dataclass(frozen=True, slots=True)
class Coupon:
    """A coupon that was bought, and the code that its owner shows: its hash under each key."""

    id: UUID
    owner: UUID
    template: UUID
    code: tuple[str, ...]


class Till:
    """Verbs of the partner's side; `who` is a user, or None for the service itself."""

    def __init__(self, world: World) -> None:
        self.world = world

    def coupon(self, template: UUID | None = None, **columns: Any) -> Coupon:
        """A coupon of the coffee house, bought by a new user for 500 points."""
        world = self.world
        template = template or world.template(
            cost=500, partner_id=COFFEE, partner_name="The coffee house", **columns
        )
        owner, code = world.user(points=500), code_of_any_key()
        bought = world.redeem(owner, template, code_hash=code[0])
        return Coupon(UUID(bought["coupon_id"]), owner, template, code)

    def member(self, partner: str = COFFEE) -> UUID:
        """Somebody who works for a partner."""
        user = uuid4()
        self.world.operator.execute(
            "insert into partner_members (partner_id, user_id) values (%s, %s)", (partner, user)
        )
        return user

    def verify(self, who: UUID | None, code: Coupon | tuple[str, ...], **more: Any) -> Any:
        return self._show("verify_coupon", who, code, more)

    def consume(
        self, who: UUID | None, code: Coupon | tuple[str, ...], key: str = "till-1", **more: Any
    ) -> Any:
        return self._show("consume_coupon", who, code, {"idempotency_key": key, **more})

    def hold(
        self, who: UUID | None, code: Coupon | tuple[str, ...], key: str = "till-1", **more: Any
    ) -> Any:
        return self._show("hold_coupon", who, code, {"idempotency_key": key, **more})

    def release(
        self, who: UUID | None, code: Coupon | tuple[str, ...], key: str = "till-1", **more: Any
    ) -> Any:
        return self._show("release_coupon", who, code, {"idempotency_key": key, **more})

    def everything(self) -> dict[str, Callable[..., Any]]:
        """What can be done with a code."""
        return {
            name: partial(getattr(self, name)) for name in ("verify", "consume", "hold", "release")
        }

    def row(self, coupon: Coupon) -> dict[str, Any]:
        """The coupon as it is stored."""
        (row,) = self.world.rows("select * from coupons where coupon_id = %s", (coupon.id,))
        return row

    def failures(self) -> dict[tuple[str, str], int]:
        """How many wrong codes are counted on each."""
        rows = self.world.rows("select scope, subject, failures from coupon_attempts")
        return {(row["scope"], row["subject"]): row["failures"] for row in rows}

    def _show(
        self,
        procedure: str,
        who: UUID | None,
        code: Coupon | tuple[str, ...],
        more: dict[str, Any],
    ) -> Any:
        through: Connection = more.pop("through", None) or self.world.functions
        hashes = list(code.code if isinstance(code, Coupon) else code)
        arguments = {"user_id": who, "code_hashes": hashes, **more}
        return self.world.call(f"public.{procedure}", arguments, through)


def code_of_any_key() -> tuple[str, str]:
    """A code that nobody else has, as it looks under the key of today and the one before."""
    code = uuid4().hex
    return (sha256(f"now {code}".encode()).hexdigest(), sha256(f"then {code}".encode()).hexdigest())
