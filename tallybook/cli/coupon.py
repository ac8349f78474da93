"""`tallybook coupon`: what was issued, and ending it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from tallybook.cli import coupon_template
from tallybook.cli.code import CodeArgument, hashes_of
from tallybook.cli.connection import DatabaseUrl, DryRun, Json, print_json
from tallybook.cli.coupon_till import consume, verify
from tallybook.cli.operator import Actor, Missing, Reason, reading, told, writing
from tallybook.cli.tables import print_fields, show

app = typer.Typer(no_args_is_help=True, help="Coupons: issued, shown, revoked, refunded.")

EXPIRE_MAX: Final = 10_000


class Status(StrEnum):
    """How a coupon stands."""

    ISSUED = "issued"
    HELD = "held"
    REDEEMED = "redeemed"
    EXPIRED = "expired"
    REVOKED = "revoked"


CouponArgument = Annotated[UUID, typer.Argument(metavar="COUPON_ID", show_default=False)]

# Whoever reads a coupon goes by the time; upkeep writes it down when it comes by.
_NOW: Final = """
select c.coupon_id, c.issued_to as user_id, c.template_id, t.template_name,
       case when c.status in ('issued', 'held') and c.expires_at <= internal.clock() then 'expired'
            when c.status = 'held' and c.held_until <= internal.clock() then 'issued'
            else c.status end as status,
       c.issued_points_cost as points, c.issued_at, c.expires_at
"""

_LIST: Final = f"""
select x.* from (
  {_NOW}
    from public.coupons as c
    join public.coupon_templates as t on t.template_id = c.template_id
   where (%(user)s::uuid is null or c.issued_to = %(user)s)
     and (%(template)s::uuid is null or c.template_id = %(template)s)) as x
 where %(status)s::text is null or x.status = %(status)s
 order by x.coupon_id desc
 limit %(limit)s
"""  # noqa: S608

_ONE: Final = f"""
{_NOW}
     , t.coupon_value_type, t.coupon_value, t.partner_name, t.partner_id, c.key_id,
       c.held_until, c.held_by, c.redeemed_at, c.redeemed_by, c.redemption_proof,
       c.revoked_at, c.revoked_by, c.revocation_reason, c.refunded_at, c.refund_points_event_id,
       c.points_event_id, c.metadata
  from public.coupons as c
  join public.coupon_templates as t on t.template_id = c.template_id
 where c.coupon_id = %(id)s or c.code_hash = any (%(hashes)s::text[])
"""


@app.command("list")
def list_coupons(
    user: Annotated[UUID | None, typer.Option(show_default=False)] = None,
    template: Annotated[UUID | None, typer.Option(show_default=False)] = None,
    status: Annotated[Status | None, typer.Option(show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 20,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Show coupons, the latest first."""
    wanted = {
        "user": user, "template": template, "status": status and str(status), "limit": limit,
    }  # fmt: skip
    with reading(database, json=json) as operator:
        coupons = operator.rows(_LIST, wanted)
    if json:
        print_json({"coupons": coupons})
        return
    columns = {"coupon_id": "coupon", "user_id": "user", "status": "status"}
    if user:
        columns = {"coupon_id": "coupon", "status": "status", "points": "points"}
        columns |= {"expires_at": "expires"}
    show(coupons, columns | {"template_name": "template"}, empty="No coupons.")


@app.command("show")
def show_coupon(coupon: CodeArgument, database: DatabaseUrl = None, json: Json = False) -> None:
    """Show all there is to know of one coupon, by its id or by its code."""
    with reading(database, json=json) as operator:
        identity = _id_or_none(coupon)
        wanted: dict[str, Any] = {"id": identity, "hashes": []}
        missing: Missing = ("coupon_not_found", f"coupon_id: {identity}")
        if identity is None:
            wanted["hashes"] = hashes_of(coupon, database)
            missing = ("coupon_not_found", "No coupon has this code.")
        found = operator.row(_ONE, wanted, missing=missing)
    if json:
        print_json(found)
    else:
        print_fields(found)


@app.command()
def revoke(
    coupon: CouponArgument,
    reason: Reason,
    refund: Annotated[bool, typer.Option("--refund", help="Give the points back.")] = False,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """End a coupon for good."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "revoke_coupon",
            user_id=None,
            coupon_id=coupon,
            reason=reason,
            refund=refund,
            actor=operator.actor,
        )
    words = f"{coupon} is revoked, {answer['points_refunded']} points given back"
    told(answer, words, json=json, dry_run=dry_run)


@app.command("refund")
def refund_coupon(
    coupon: CouponArgument,
    reason: Reason,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Give back the points of a coupon that was not used, and end it."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "refund_coupon", user_id=None, coupon_id=coupon, reason=reason, actor=operator.actor
        )
    words = f"{coupon} is {answer['status']}, {answer['points_refunded']} points given back"
    told(answer, words, json=json, dry_run=dry_run)


@app.command()
def expire(
    limit: Annotated[int, typer.Option(min=1, help="Coupons at most.")] = EXPIRE_MAX,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Write down which coupons have expired, and let go the holds that have lapsed."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call("mark_expired_coupons", limit=limit)
    words = f"{answer['expired']} expired, {answer['released']} holds let go"
    told(answer, words, json=json, dry_run=dry_run)


app.command()(verify)
app.command()(consume)
app.command("templates")(coupon_template.templates)
app.add_typer(coupon_template.app, name="template")


def _id_or_none(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
