"""`tallybook report`: the runbook's questions, each a function `report_*` of the database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from psycopg import sql

from tallybook.cli.connection import UNUSABLE, DatabaseUrl, Json, fail, print_json
from tallybook.cli.operator import Operator, reading
from tallybook.cli.tables import show
from tallybook.cli.times import Since, parsed_duration

_ANSWERS: Final = {
    "allocations": "The latest allocations, of one tenant or of all.",
    "allocations_by_day": "How much was allocated on each day.",
    "allocations_by_week": "How much was allocated in each week.",
    "balance": "Why does a redemption fail? One user's balance, cached and by the events.",
    "balance_audit": "Users whose cached balance is not what their events say.",
    "billing": "The latest of what came into tenants and was taken from them.",
    "clawbacks": "What was taken back from tenants of late.",
    "coupon_codes": "What must not be with coupons and their codes; zeros when all is well.",
    "coupons_by_status": "The coupons issued of late by what became of them.",
    "credit_balances": "What users have in credits, by tier.",
    "credit_failure_spikes": "Which models fail more often than they did.",
    "credit_low_balances": "Whose credits run low.",
    "credit_unusual_spending": "Who spends more credits than is usual for them.",
    "credit_usage": "What was used by month and model.",
    "damage": "What was decided since a moment, and whom it touched.",
    "events_by_status": "How many events of late are in which state.",
    "history": "One user's events, the latest first.",
    "insights_by_type": "What fraud was suspected of late.",
    "large_allocations": "Single allocations of late above 1,000,000.",
    "queue": "Is the worker keeping up?",
    "rejections_by_type": "What share of the events of late was rejected.",
    "stuck_events": "The oldest events that still wait for validation.",
    "templates": "Which coupons sell.",
    "tenant_audit": "Where tenants disagree with the ledger.",
    "tenant_balances": "What each tenant has to give.",
    "tenant_totals": "The daily check of tenants, in one row.",
    "tenants_below_zero": "What of tenants is below zero, and must not be.",
    "top_tenants": "Who was allocated the most.",
    "totals": "Everything there is, in one row.",
    "usage_by_tenant": "What tenants did with their points of late.",
}

# The argument an option fills, by the option's name here.
_OPTIONS: Final = {
    "p_since": "--since",
    "p_older_than": "--older-than",
    "p_user_id": "--user",
    "p_tenant_id": "--tenant",
    "p_limit": "--limit",
}

_REPORTS: Final = """
select substr(p.proname, 8) as name,
       array(select a.name || ' ' || format_type(t.type, null)
               from unnest(p.proargnames) with ordinality as a(name, position)
               join unnest(p.proargtypes::oid[]) with ordinality as t(type, position)
                 using (position) order by position) as arguments,
       p.pronargs - p.pronargdefaults as needed
  from pg_catalog.pg_proc as p
 where p.pronamespace = 'public'::regnamespace and p.proname like 'report\\_%%'
   and has_function_privilege(p.oid, 'execute')
 order by 1
"""


def report(
    name: Annotated[str | None, typer.Argument(show_default=False)] = None,
    since: Since = None,
    older_than: Annotated[
        timedelta | None, typer.Option(parser=parsed_duration, metavar="1h", show_default=False)
    ] = None,
    user: Annotated[UUID | None, typer.Option(show_default=False)] = None,
    tenant: Annotated[UUID | None, typer.Option(show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(min=1, show_default=False)] = None,
    database: DatabaseUrl = None,
    json: Json = False,
) -> None:
    """Print a report; without a name, which there are."""
    given = {
        "--since": since,
        "--older-than": older_than,
        "--limit": limit,
        "--user": user,
        "--tenant": tenant,
    }
    with reading(database, json=json) as operator:
        reports = {row["name"]: row for row in operator.rows(_REPORTS, {})}
        if name is None:
            _list(list(reports.values()), json)
            return
        chosen = name.replace("-", "_").removeprefix("report_")
        if chosen not in reports:
            fail(f"There is no report {name}; `tallybook report` lists them.", UNUSABLE)
        arguments = _arguments(operator, reports[chosen], given)
        call = sql.SQL("select * from {}({})").format(
            sql.Identifier("public", f"report_{chosen}"),
            sql.SQL(", ").join(
                sql.SQL("{} => {}").format(sql.Identifier(argument), sql.Placeholder(argument))
                for argument in arguments
            ),
        )
        rows = operator.rows(call, arguments)
    if json:
        print_json({"report": chosen, "rows": rows})
    else:
        show(rows, bar="count" if rows and "count" in rows[0] else None, empty="Nothing.")


def _list(reports: list[dict[str, Any]], json: bool) -> None:
    told = [
        {
            "report": row["name"],
            "options": [
                _OPTIONS[name]
                for name in (argument.split()[0] for argument in row["arguments"])
                if name in _OPTIONS
            ],
            "answers": _ANSWERS.get(row["name"], ""),
        }
        for row in reports
    ]
    if json:
        print_json({"reports": told})
    else:
        show(told)


def _arguments(operator: Operator, report: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What the options mean as this report's arguments. Ends with code 2 when they do not fit."""
    types: dict[str, str] = dict(a.split(" ", 1) for a in report["arguments"])
    takes = {_OPTIONS[name]: name for name in types if name in _OPTIONS}
    for option, value in given.items():
        if value is not None and option not in takes:
            fail(f"This report takes no {option}.", UNUSABLE)
    for name in list(types)[: report["needed"]]:
        if name not in _OPTIONS or given[_OPTIONS[name]] is None:
            fail(f"This report needs {_OPTIONS.get(name, name)}.", UNUSABLE)
    return {
        argument: _fitting(operator, given[option], types[argument])
        for option, argument in takes.items()
        if given[option] is not None
    }


def _fitting(operator: Operator, value: Any, type_name: str) -> Any:
    """A time where the report wants a time, a duration where it wants a duration."""
    if isinstance(value, timedelta) and type_name.startswith("timestamp"):
        return operator.moment(value)
    if isinstance(value, datetime) and type_name == "interval":
        return operator.moment(timedelta()) - value
    return value
