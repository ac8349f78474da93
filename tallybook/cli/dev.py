"""`tallybook dev`: the whole stack on this machine, and three commands to try it with."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Annotated, Any, Final

import psycopg
import typer
import uvloop

from tallybook import logs
from tallybook.cli import project
from tallybook.cli.connection import UNUSABLE, Json, fail, print_json, stderr
from tallybook.local import demo
from tallybook.local.stack import InUse, PortBusy, Stack, remove
from tallybook.migrate import MigrationRefused

TOKEN_SECONDS: Final = 24 * 3600


def dev(
    port: Annotated[int, typer.Option(envvar="TALLYBOOK_PORT", min=0, max=65535)] = 54321,
    postgres_port: Annotated[
        int, typer.Option(envvar="TALLYBOOK_PG_PORT", min=0, max=65535)
    ] = 54322,
    fast: Annotated[
        bool,
        typer.Option(envvar="TALLYBOOK_PG_FAST", help="Postgres without fsync, for tests."),
    ] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Remove the data first.")] = False,
    json: Json = False,
) -> None:
    """Run everything on http://127.0.0.1:54321. Ctrl-C stops it; the data stays.

    Port 0 is any free one. Data and keys lie in .tallybook, or where TALLYBOOK_FOLDER says.
    """
    # Until the gateway takes over, and after, an order to end is what Ctrl-C is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = project.local_folder()
    stack = Stack(
        folder=folder,
        root=project.root(),
        port=port,
        postgres_port=postgres_port,
        fast=fast,
        say=lambda step: stderr.print(step, style="dim"),
    )
    try:
        if reset:
            remove(folder)
        with stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(stack.serve(lambda: _show(stack, json)))
            stderr.print("Stopping", style="dim")
    except KeyboardInterrupt:
        stderr.print("Stopped", style="dim")
    except PortBusy as busy:
        fail(
            f"{busy} Does `make dev` run already? If not, choose others with TALLYBOOK_PORT "
            "and TALLYBOOK_PG_PORT.",
            UNUSABLE,
        )
    except InUse as running:
        fail(f"{running} Stop it first: Ctrl-C where `make dev` runs.", UNUSABLE)
    except MigrationRefused as refused:
        fail(f"{refused}. Start over with `make dev RESET=1`; that removes the data.", UNUSABLE)
    except (RuntimeError, TimeoutError, PermissionError, LookupError, psycopg.Error) as error:
        fail(str(error), UNUSABLE)
    finally:
        logs.flush()


def _show(stack: Stack, json: bool) -> None:
    description = _describe(stack)
    if json:
        print_json(description)
    else:
        _print(description)
    sys.stdout.flush()


def _describe(stack: Stack) -> dict[str, Any]:
    user_token = stack.keys.token(stack.demo.user_id, seconds=TOKEN_SECONDS)
    admin_token = stack.keys.token(demo.ADMIN, seconds=TOKEN_SECONDS)
    partner_token = stack.keys.token(demo.PARTNER, seconds=TOKEN_SECONDS)
    service_token = stack.keys.token(None, role="service_role", seconds=TOKEN_SECONDS)
    return {
        "url": stack.url,
        "functions_url": f"{stack.url}/functions/v1",
        "rest_url": f"{stack.url}/rest/v1" if stack.postgrest_url else None,
        "database_url": stack.postgres.dsn(tcp=True),
        "publishable_key": stack.keys.publishable_key,
        "secret_key": stack.keys.secret_key,
        "user": {"id": stack.demo.user_id, "points": stack.demo.points, "token": user_token},
        "admin": {"id": demo.ADMIN, "email": demo.ADMIN_EMAIL, "token": admin_token},
        "partner": {"id": demo.PARTNER, "partner_id": demo.PARTNER_ID, "token": partner_token},
        "service": {"role": "service_role", "token": service_token},
        "commands": _commands(stack, user_token),
    }


def _commands(stack: Stack, token: str) -> dict[str, str]:
    """Three lines to paste, again and again: each makes a new nonce and takes the time of day."""
    bearer = f'-H "Authorization: Bearer {token}"'
    post = (
        f"curl -sS -w '\\n' -H 'Content-Type: application/json' {bearer} {stack.url}/functions/v1/"
    )
    unique = "$(date +%s%N)"
    submit = {
        "event_type": "habit_completion",
        "event_time": "$(date -u +%Y-%m-%dT%H:%M:%SZ)",
        "nonce": unique,
    }
    redeem = {"template_id": str(demo.STARBUCKS), "idempotency_key": unique}
    return {
        "submit an event": f"{post}submit-points-event -d {_body(submit)}",
        "see the balance": f"{post}points-balance -d '{{}}'",
        "redeem a coupon": f"{post}redeem-coupon -d {_body(redeem)}",
    }


def _body(fields: dict[str, str]) -> str:
    """JSON in double quotes, so that the shell fills in what stands in $(…)."""
    return '"{' + ",".join(f'\\"{name}\\":\\"{value}\\"' for name, value in fields.items()) + '}"'


def _print(description: dict[str, Any]) -> None:
    rest = description["rest_url"] or (
        "not installed: `npm ci --ignore-scripts` brings PostgREST (Node 20 or newer)"
    )
    user, admin, partner = (description[who] for who in ("user", "admin", "partner"))
    lines = [
        "",
        "Tallybook is up. Ctrl-C stops it.",
        "",
        f"  functions  {description['functions_url']}/<name>",
        f"  tables     {rest}",
        f"  API        {description['url']}/openapi.json",
        f"  database   {description['database_url']}",
        f"  anon key   {description['publishable_key']}",
        f"  secret key {description['secret_key']} (programs: sees every row)",
        "",
        f"A user's token (user {user['id']}, {user['points']} points, good for 24 hours):",
        user["token"],
        "",
        f"An administrator's token ({admin['email']}: review/approve, coupons/revoke, …):",
        admin["token"],
        "",
        f"A partner's token ({partner['partner_id']}: coupons/verify, coupons/consume):",
        partner["token"],
    ]
    for what, command in description["commands"].items():
        lines += ["", f"To {what}:", command]
    typer.echo("\n".join([*lines, ""]))
