"""`tallybook rotate-provider-keys`: users' keys for providers, encrypted anew under the current
ENCRYPTION_KEY, so that a previous one can go."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from tallybook.cli import env_file
from tallybook.cli.connection import (
    REFUSED,
    UNUSABLE,
    DatabaseUrl,
    DryRun,
    Json,
    fail,
    print_json,
    stderr,
)
from tallybook.cli.operator import Actor, Operator, writing
from tallybook.cli.tables import print_line
from tallybook.provider_keys import ProviderKeys
from tallybook.settings import ConfigurationError, Settings

PAGE: Final = 500
VARIABLES: Final = ("ENCRYPTION_KEY", "ENCRYPTION_KEYS_PREVIOUS")

_OLDER: Final = """
select a.user_id, a.openrouter_api_key_encrypted as encrypted
  from public.openrouter_accounts as a
 where a.key_id <> %(key_id)s and (%(after)s::uuid is null or a.user_id > %(after)s)
 order by a.user_id
 limit %(page)s
"""


def rotate_provider_keys(
    file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            help="The file with ENCRYPTION_KEY and ENCRYPTION_KEYS_PREVIOUS; else the environment.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    database: DatabaseUrl = None,
    actor: Actor = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Encrypt every user's key anew that a previous ENCRYPTION_KEY encrypted.

    It can be stopped and started again. Once nothing is left, the previous key can go.
    """
    keys = _keys(file)
    rotated, changed = 0, 0
    failed: list[UUID] = []
    with writing(database, json=json, actor=actor, dry_run=dry_run) as operator:
        for page in _older(operator, keys.key_id):
            for row in page:
                user_id, seen = row["user_id"], row["encrypted"]
                try:
                    api_key = keys.decrypt(user_id, seen)
                except ValueError:
                    failed.append(user_id)
                    continue
                again, key_id = keys.encrypt(user_id, api_key)
                # Somebody who connects another key meanwhile has it under the current one already.
                answer = operator.call(
                    "reencrypt_openrouter_account",
                    user_id=user_id,
                    seen=seen,
                    reencrypted=again,
                    key_id=key_id,
                )
                rotated += answer["rotated"]
                changed += not answer["rotated"]
            stderr.print(f"{rotated + changed + len(failed)} keys seen.", style="dim")
    if json:
        print_json(
            {
                "dry_run": dry_run,
                "key_id": keys.key_id,
                "rotated": rotated,
                "changed_meanwhile": changed,
                "failed": failed,
            }
        )
    else:
        words = f"{rotated} keys are encrypted under {keys.key_id} now."
        print_line(f"Dry run, nothing changed: {words}" if dry_run else words)
    if failed:
        users = ", ".join(map(str, failed))
        fail(f"{len(failed)} keys do not open under any key that is set: {users}", REFUSED)


def _older(operator: Operator, key_id: str) -> Iterator[list[dict[str, Any]]]:
    """What is encrypted under another key, page by page; each user comes once."""
    after: UUID | None = None
    while page := operator.rows(_OLDER, {"key_id": key_id, "after": after, "page": PAGE}):
        yield page
        after = page[-1]["user_id"]


def _keys(file: Path | None) -> ProviderKeys:
    """Ends with code 2 where there are none."""
    try:
        found: Mapping[str, str] = env_file.read(file) if file else os.environ
        told = {name: found[name] for name in VARIABLES if name in found}
        return ProviderKeys.from_settings(Settings.from_environment(told))
    except (OSError, UnicodeDecodeError, ConfigurationError) as error:
        fail(f"{file}: {error}" if file else str(error), UNUSABLE)
