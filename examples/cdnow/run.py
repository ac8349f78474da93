"""CDNOW: eighteen months of real orders become points, and points become coupons.

The import is the one `tallybook import` does. Then every customer asks for the coupon over HTTP,
with a token of their own; the server alone knows who can afford it.
"""

from __future__ import annotations

import asyncio
import csv
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

import httpx
import msgspec
import psycopg
from rich.console import Console
from rich.table import Table

from tallybook.history import Columns, Plan, import_file, user_namespace
from tallybook.local.signing import ISSUER, LocalKeys
from tallybook.runtime import Runtime
from tallybook.schema import ROOT
from tallybook.server import Application
from tallybook.settings import Settings
from tallybook.verify import verify

FILE: Final = Path(__file__).resolve().parent / "cdnow_sample.csv"
PLAN: Final = Plan(
    source=FILE.name, columns=Columns(user="customer", time="date", points="dollars")
)
COUPON: Final = UUID("c0ffee00-0000-4000-8000-000000000500")
COUPON_POINTS: Final = 500
AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened; amounts are points. `expected_*` are computed from the file alone."""

    customers: int
    orders: int
    points: int
    coupons: int
    refused: int
    replayed: int
    points_left: int
    imported_again: int
    discrepancies: int
    expected_points: int
    expected_coupons: int
    import_seconds: float
    redeem_seconds: float

    @property
    def as_it_should(self) -> bool:
        """Whether book and file agree, and nothing happened twice."""
        return (
            self.points == self.expected_points
            and self.coupons == self.replayed == self.expected_coupons
            and self.refused == self.customers - self.coupons
            and self.points_left == self.points - COUPON_POINTS * self.coupons
            and self.imported_again == self.discrepancies == 0
        )

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "as_it_should": self.as_it_should}


def run(dsn: Callable[[str], str]) -> Outcome:
    """Do all of it in an empty database that has the schema; `dsn(user)` is its address."""
    owner = dsn("postgres")
    earned = _earned()
    imported = import_file(dsn("tallybook_operator"), FILE, PLAN)
    _offer(dsn("tallybook_operator"))

    began = time.monotonic()
    answers = asyncio.run(_everybody_asks(dsn("tallybook_functions"), earned))
    seconds = time.monotonic() - began

    again = import_file(dsn("tallybook_operator"), FILE, PLAN)
    with psycopg.connect(owner) as connection:
        [(customers, points_left)] = connection.execute(
            "select count(*), sum(available_points)::bigint from public.user_points_cache"
        ).fetchall()
    return Outcome(
        customers=customers,
        orders=imported.imported,
        points=imported.points,
        coupons=answers["coupon"],
        refused=answers["insufficient_points"],
        replayed=answers["same coupon again"],
        points_left=points_left,
        imported_again=again.imported,
        discrepancies=sum(finding.faults for finding in verify(owner)),
        expected_points=sum(earned.values()),
        expected_coupons=sum(points >= COUPON_POINTS for points in earned.values()),
        import_seconds=round(imported.seconds, 3),
        redeem_seconds=round(seconds, 3),
    )


def _earned() -> Counter[str]:
    """Customer -> points, one a whole dollar of every order."""
    earned: Counter[str] = Counter()
    with FILE.open(newline="") as file:
        for order in csv.DictReader(file):
            dollars = Decimal(order["dollars"])
            earned[order["customer"]] += int(dollars.to_integral_value(ROUND_FLOOR))
    return earned


def _offer(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into public.coupon_templates (template_id, template_name, points_cost,"
            " coupon_value_type, coupon_value, partner_name)"
            " values (%s, '$5 Starbucks Gift Card', %s, 'fixed_amount', '5.00', 'Starbucks')",
            (COUPON, COUPON_POINTS),
        )


async def _everybody_asks(url: str, customers: Counter[str]) -> Counter[str]:
    """What the answers were. Who got a coupon asks once more with the same key."""
    keys = LocalKeys.new()
    environment = {
        "DATABASE_URL": url,
        "SUPABASE_JWKS": msgspec.json.encode(keys.jwks).decode(),
        "SUPABASE_JWT_ISSUER": ISSUER,
        "COUPON_SECRET": keys.coupon_secret,
    }
    runtime = Runtime.from_settings(Settings.from_environment(environment))
    application = Application(runtime, ROOT)
    answers: Counter[str] = Counter()
    limit = asyncio.Semaphore(AT_ONCE)

    async def ask(client: httpx.AsyncClient, customer: str) -> None:
        user_id = uuid5(user_namespace(PLAN.source), customer)
        headers = {
            "authorization": f"Bearer {keys.token(user_id)}",
            "idempotency-key": f"coupon of {customer}",
        }
        body = {"template_id": str(COUPON)}
        async with limit:
            first = await client.post("/functions/v1/redeem-coupon", json=body, headers=headers)
            if first.status_code != 200:
                answers[first.json()["code"]] += 1
                return
            answers["coupon"] += 1
            second = await client.post("/functions/v1/redeem-coupon", json=body, headers=headers)
        if second.headers.get("idempotent-replayed") == "true" and second.json() == first.json():
            answers["same coupon again"] += 1

    try:
        # The application takes httpx's calls as it takes uvicorn's.
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://cdnow") as client:
            await asyncio.gather(*(ask(client, customer) for customer in customers))
    finally:
        await runtime.database.close()
    return answers


def show(outcome: Outcome, console: Console) -> None:
    """A small table of what happened."""
    table = Table(title="CDNOW, January 1997 to June 1998", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for what, value in (
        ("customers", outcome.customers),
        ("orders imported", outcome.orders),
        ("points earned", outcome.points),
        ("coupons bought", outcome.coupons),
        ("refused: not enough points", outcome.refused),
        ("same request, same coupon", outcome.replayed),
        ("points left", outcome.points_left),
        ("imported by importing again", outcome.imported_again),
        ("discrepancies", outcome.discrepancies),
    ):
        table.add_row(what, f"{value:,}")
    table.add_row("seconds to import", f"{outcome.import_seconds:.1f}")
    table.add_row("seconds to redeem", f"{outcome.redeem_seconds:.1f}")
    console.print(table)
    console.print("As it should be." if outcome.as_it_should else f"Not as it should be: {outcome}")
