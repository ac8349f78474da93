"""`tallybook coupon verify` and `consume`: what a partner's till does, by hand, as the service."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from tallybook.cli.code import CodeArgument, hashes_of
from tallybook.cli.connection import DatabaseUrl, DryRun, Json, print_json
from tallybook.cli.operator import Actor, told, writing
from tallybook.cli.tables import print_fields


def parsed_object(text: str) -> dict[str, Any]:
    """A JSON object for an option."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        raise typer.BadParameter("must be a JSON object") from None


def verify(code: CodeArgument, database: DatabaseUrl = None, json: Json = False) -> None:
    """Say whether a code could be consumed now; exit code 1 when it could not.

    Use `coupon show` to see why.
    """
    # A wrong code is counted against whoever guesses, so it writes; this is nobody's guess.
    with writing(database, json=json, actor=None, dry_run=True) as operator:
        answer = operator.call("verify_coupon", user_id=None, code_hashes=hashes_of(code, database))
    if json:
        print_json(answer)
    else:
        print_fields(answer)


def consume(
    code: CodeArgument,
    key: Annotated[str, typer.Option("--key", help="Under one key it is consumed once.")],
    proof: Annotated[
        dict[str, Any] | None,
        typer.Option(parser=parsed_object, metavar="JSON", help="What to keep of it: the receipt."),
    ] = None,
    actor: Actor = None,
    database: DatabaseUrl = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Use a coupon up, for a partner whose till cannot."""
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        answer = operator.call(
            "consume_coupon",
            user_id=None,
            code_hashes=hashes_of(code, database),
            idempotency_key=key,
            # The procedure knows the service only; who it was stands in the proof.
            redemption_proof={**(proof or {}), "operator": operator.actor},
        )
    words = f"{answer['coupon_id']} is consumed: {answer['template_name']}"
    told(answer, words, json=json, dry_run=dry_run)
