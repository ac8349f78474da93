"""What a client is told of a database error, by its SQLSTATE; both transports ask here."""

from __future__ import annotations

from typing import Final

from tallybook.refusal import Refusal, invalid_body, unavailable

# The same request may succeed when sent again: serialization failure, deadlock, and a unique key
# that somebody took meanwhile, whom the next try will see.
CONFLICTS: Final = ("40001", "40P01", "23505")

# A server that stops or starts: admin_shutdown, crash_shutdown, cannot_connect_now.
RESTARTS: Final = ("57P01", "57P02", "57P03")

# Gone, full, silent or locked, which is no fault of what was asked.
AWAY: Final = ("08", "53", "55P03", "57", "58")


def refusal_of(
    state: str, message: str, detail: str | None = None, hint: str | None = None
) -> Refusal | None:
    """The procedure's own refusal, or what this state comes to; None for a defect of ours."""
    refusal = Refusal.from_sqlstate(state, message, detail, hint)
    if refusal is not None:
        return refusal
    if state in CONFLICTS or state.startswith(AWAY):
        return unavailable("The database cannot answer right now.")
    if state.startswith("22"):
        return invalid_body("The database does not take one of the values.")
    return None
