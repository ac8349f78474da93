"""review/approve, review/reject: an administrator decides what the rules left to a person."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta

from tallybook.body import Body
from tallybook.caller import Caller
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.http import Handler
from tallybook.logs import POINTS_EVENT_VALIDATED
from tallybook.route import SERVICE, USERS, Route
from tallybook.runtime import Runtime
from tallybook.validation import EVENT_FIELDS


class Review(Body):
    """Which event, why it is decided so, and what that says about the rules that flagged it."""

    event_id: UUID
    reason: Annotated[str, Meta(max_length=1000)]
    label: Literal["confirmed_fraud", "false_positive"] | None = None


def deciding(decision: str) -> Callable[[Runtime, Caller, Review], Mapping[str, Any]]:
    """The address says the decision; the body cannot say another."""
    return lambda _runtime, _caller, _body: {"decision": decision}


def what_was_decided(
    _caller: Caller, _body: Review, answer: Answer
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """As a worker's verdict is logged, and whose it is."""
    fields = {name: answer[name] for name in (*EVENT_FIELDS, "reviewed_by")}
    return [(POINTS_EVENT_VALIDATED, fields)]


def review(slug: str, decision: str) -> Handler:
    """The handler of one of the two decisions."""
    return endpoint(
        Route(
            slug=slug,
            procedure="review_points_event",
            body=Review,
            callers=USERS | SERVICE,
            writes=True,
            prepare=deciding(decision),
            log=what_was_decided,
        )
    )


approve = review("review/approve", "approved")
reject = review("review/reject", "rejected")
