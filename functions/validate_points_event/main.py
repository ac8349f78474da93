"""validate-points-event: decide one pending event, or with `{}` a batch of the oldest.

For programs and administrators; whether a user is one, the procedure knows.
"""

from uuid import UUID

from tallybook.body import Body
from tallybook.endpoint import endpoint
from tallybook.route import SERVICE, USERS, Route
from tallybook.validation import what_was_decided


class ValidatePointsEvent(Body):
    """The event to decide; none for the oldest that are pending."""

    event_id: UUID | None = None


validate_points_event = endpoint(
    Route(
        slug="validate-points-event",
        procedure="validate_points_events",
        body=ValidatePointsEvent,
        callers=USERS | SERVICE,
        log=lambda _caller, _body, answer: what_was_decided(answer),
    )
)
