"""What the state machine stands on: a clone, a server in front of it, and the people who ask.

The terms are set as an operator sets them, so that a few steps come up against every limit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import msgspec
import psycopg

from tallybook.local.postgres import EmbeddedPostgres
from tests.conftest import cloned
from tests.machine.model import Actor
from tests.machine.model_coupons import Template
from tests.machine.model_limits import Terms
from tests.machine.model_points import STREAKS
from tests.machine.model_prices import TIERS
from tests.machine.model_tiers import Promotion
from tests.machine.model_till import FAILURES_MAX
from tests.stack import Stack, running
from tests.world import NOW, World

USERS: Final = ("ann", "ben", "cleo", "ada")  # one of the administrators earns points as well
ADMINISTRATORS: Final = ("ada", "bea")
TILLS: Final = {"tom": "coffee", "tina": "coffee", "gus": "gym", "gwen": "gym"}
SERVICE: Final = "service"

_JSON: Final = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, from a route or from a procedure that has none yet."""

    status: int
    body: dict[str, Any]
    replayed: bool
    headers: Mapping[str, str]

    @property
    def code(self) -> str | None:
        """The refusal's, when it is one."""
        return self.body.get("code") if self.status >= 400 else None


@dataclass
class Stage:
    """One server in front of one database, and everybody's credentials."""

    world: World
    stack: Stack
    http: httpx.Client
    terms: Terms = field(default_factory=Terms)

    def __post_init__(self) -> None:
        self.actors = {SERVICE: Actor(SERVICE)}
        for name in {*USERS, *ADMINISTRATORS, *TILLS}:
            self.actors[name] = Actor(name, uuid4(), name in ADMINISTRATORS, TILLS.get(name))
        self.credentials = {
            name: {"authorization": f"Bearer {self.stack.keys.token(actor.user)}"}
            if actor.user
            else {"apikey": self.stack.keys.secret_key}
            for name, actor in self.actors.items()
        }
        self.templates = [
            Template("Coffee", 40, "coffee", days=5, per_user=1),
            Template("Tea", 15, "coffee", days=2),
            Template("Sauna", 20, "gym", days=3, overall=4),
            Template("Cake", 30, "coffee", days=7, per_user=2, budget=100),
            Template("Juice", 10, "gym", active=False),
        ]
        self._set_terms()

    def post(self, by: Actor, slug: str, body: Mapping[str, Any]) -> Answer:
        """Ask a function, as this actor: by its slug, or at an address of its own."""
        answer = self.http.post(
            slug if slug.startswith("/") else f"/functions/v1/{slug}",
            content=_JSON.encode(body),
            headers={"content-type": "application/json", **self.credentials[by.name]},
        )
        replayed = answer.headers.get("idempotent-replayed") == "true"
        # Credits are exact, to the sixth decimal place.
        told = json.loads(answer.text, parse_float=Decimal if slug.startswith("credit") else float)
        return Answer(answer.status_code, told, replayed, answer.headers)

    def get(self, by: Actor, path: str, **query: str) -> Answer:
        """Look at an address, as this actor."""
        answer = self.http.get(path, params=query, headers=self.credentials[by.name])
        return Answer(answer.status_code, answer.json(), False, answer.headers)

    def join(self, *names: str) -> None:
        """More people, with tokens of their own."""
        for name in names:
            actor = self.actors[name] = Actor(name, uuid4())
            token = self.stack.keys.token(actor.user)
            self.credentials[name] = {"authorization": f"Bearer {token}"}

    def call(self, procedure: str, **arguments: Any) -> Answer:
        """Call a procedure as a function does."""
        try:
            body = self.world.call(f"public.{procedure}", arguments, self.world.functions)
        except psycopg.Error as error:
            assert (error.sqlstate or "").startswith("PT"), error
            code = error.diag.message_primary
            return Answer(int((error.sqlstate or "")[2:]), {"code": code}, False, {})
        return Answer(200, body, body.pop("replayed", False), {})

    def promotions(self) -> dict[str, Promotion]:
        """Prices of which some keep for a month more, and words that bring something."""
        starter = {"rollover_max": int(TIERS["starter"].rollover_max)}
        self.world.call(
            "public.publish_prices",
            {"user_id": None, "changes": {"tiers": {"starter": starter}}, "note": "Some keep."},
            self.world.operator,
        )
        found = [
            Promotion("WELCOME", "fixed", Decimal(5)),
            Promotion("HAPPY", "bonus", Decimal("3.25"), 3, 2, lasts=timedelta(days=2)),
            Promotion("PART", "percentage", Decimal(20), until=NOW + timedelta(days=40)),
            Promotion("MONTH", "free_month", Decimal(1), tier="starter"),
            Promotion("MORE", "free_month", Decimal(2)),
            Promotion("SPRING", "bonus", Decimal(2), per_user=5, lasts=timedelta(days=2),
                      until=NOW + timedelta(days=3)),
        ]  # fmt: skip
        for it in found:
            days = it.lasts.days if it.lasts else None
            body = {
                "code": it.code, "discount_type": it.kind, "discount_value": it.value,
                "max_uses": it.uses_max, "max_uses_per_user": it.per_user, "tier": it.tier,
                "credits_expire_after_days": days, "expires_at": it.until,
            }  # fmt: skip
            assert self.post(self.actors[SERVICE], "credit-coupons/create", body).status == 200
        return {it.code: it for it in found}

    def _set_terms(self) -> None:
        terms, operate = self.terms, self.world.operator.execute
        operate(
            "update points_programs set events_per_hour_max = %s, events_per_day_max = %s,"
            " points_per_hour_max = %s, points_per_day_max = %s, award_review_above = %s,"
            " expires_after_days = %s",
            (
                terms.events_per_hour,
                terms.events_per_day,
                terms.points_per_hour,
                terms.points_per_day,
                terms.award_review_above,
                terms.expires_after.days,
            ),
        )
        operate(
            "update points_rules set daily_max = %s where event_type = 'goal_achieved'",
            (terms.goals_per_day,),
        )
        operate(
            "update coupon_throttles set failures_max = %s where scope = 'user'", (FAILURES_MAX,)
        )
        for days, percent in STREAKS.items():
            operate(
                "insert into streak_multipliers values (%s, %s / 100.0)"
                " on conflict (days_min) do update set multiplier = excluded.multiplier",
                (days, percent),
            )
        for name in ADMINISTRATORS:
            actor = self.actors[name]
            operate(
                "insert into system_admins (id, email) values (%s, %s)",
                (actor.user, actor.signature),
            )
        for name, partner in TILLS.items():
            operate(
                "insert into partner_members (partner_id, user_id) values (%s, %s)",
                (partner, self.actors[name].user),
            )
        for template in self.templates:
            template.id = str(
                self.world.value(
                    "insert into coupon_templates (template_name, points_cost, coupon_value_type,"
                    " coupon_value, partner_id, partner_name, expires_after_days,"
                    " max_redemptions_per_user, max_redemptions, budget_points, is_active)"
                    " values (%s, %s, 'fixed_amount', '5.00', %s, %s, %s, %s, %s, %s, %s)"
                    " returning template_id",
                    (
                        template.name,
                        template.cost,
                        template.partner,
                        template.partner,
                        template.days,
                        template.per_user,
                        template.overall,
                        template.budget,
                        template.active,
                    ),
                    through=self.world.operator,
                )
            )


@contextmanager
def opened(postgres: EmbeddedPostgres, template: str, folder: Path) -> Iterator[Stage]:
    """A stage of its own, whose books must agree with themselves after the block."""
    with cloned(postgres, template) as database:
        world = World(database)
        world.freeze(NOW)
        with (
            # What a cache keeps for some seconds knows nothing of days that pass at once.
            running(database, folder, with_postgrest=False, CREDIT_CACHE_TTL="0") as stack,
            httpx.Client(base_url=stack.url, timeout=20) as http,
        ):
            yield Stage(world, stack, http)
