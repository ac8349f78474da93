"""What could not be checked when it came is checked again, until no token is as old any more."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tallybook import logs
from tallybook.attestation.evidence import Rejected, Status, Unavailable
from tallybook.attestation.play import Play
from tallybook.database import Database


async def recheck(play: Play, database: Database, limit: int = 100) -> int:
    """Check what is due once more; how many events an answer was found for.

    What fails for one holds nothing up: it is due again. Raises the last failure in the end.
    """
    answer = await database.call("due_attestations", {"limit": limit})
    if answer["given_up"]:
        logs.log(logs.ATTESTATION_ALERT, "error", reason="given_up", events=answer["given_up"])
    found = 0
    failure: Exception | None = None
    for due in answer["due"]:
        try:
            found += await _checked(due, play, database)
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure
    return found


async def _checked(due: dict[str, Any], play: Play, database: Database) -> bool:
    """Whether there was an answer."""
    said: dict[str, Any] = {"status": Status.VERIFIED}
    # As old as it was when it came: nobody is to blame for our waiting.
    at = datetime.fromisoformat(due["received_at"])
    try:
        await play.judge(due["token"], bytes.fromhex(due["request_hash"]), at, database)
    except Unavailable:
        return False
    except Rejected as rejected:
        said = {"status": Status.FAILED, "reason": rejected.reason}
        logs.log(
            logs.ATTESTATION_FAILED,
            "warning",
            user_id=due["user_id"],
            platform="android",
            reason=rejected.reason,
            detail=rejected.detail,
        )
    named = {"user_id": due["user_id"], "event_id": due["event_id"]}
    await database.call("recheck_points_event", {**named, **said})
    return True
