"""What the state machine stands on: a clone, a server in front of it, and the people who ask.

The terms are set as an operator sets them, so that a few steps come up against every limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg

from tallybook.local.postgres import EmbeddedPostgres
from tests.conftest import cloned
from tests.machine.model import Actor
from tests.machine.model_coupons import Template
from tests.machine.model_limits import Terms
from tests.machine.model_points import STREAKS
from tests.machine.model_till import FAILURES_MAX
from tests.stack import Stack, running
from tests.world import NOW, World

USERS: Final = ("ann", "ben", "cleo", "ada")  # one of the administrators earns points as well
ADMINISTRATORS: Final = ("ada", "bea")
TILLS: Final = {"tom": "coffee", "tina": "coffee", "gus": "gym", "gwen": "gym"}
SERVICE: Final = "service"


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
        """Ask a function, as this actor."""
        answer = self.http.post(
            f"/functions/v1/{slug}", json=body, headers=self.credentials[by.name]
        )
        replayed = answer.headers.get("idempotent-replayed") == "true"
        return Answer(answer.status_code, answer.json(), replayed, answer.headers)

    def call(self, procedure: str, **arguments: Any) -> Answer:
        """Call a procedure as a function does."""
        try:
            body = self.world.call(f"public.{procedure}", arguments, self.world.functions)
        except psycopg.Error as error:
            assert (error.sqlstate or "").startswith("PT"), error
            code = error.diag.message_primary
            return Answer(int((error.sqlstate or "")[2:]), {"code": code}, False, {})
        return Answer(200, body, body.pop("replayed", False), {})

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
            running(database, folder, with_postgrest=False) as stack,
            httpx.Client(base_url=stack.url, timeout=20) as http,
        ):
            yield Stage(world, stack, http)
