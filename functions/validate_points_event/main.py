"""validate-points-event: decide one pending event, or with `{}` a batch of the oldest."""

from uuid import UUID

from tallybook.body import Body
from tallybook.endpoint import SERVICE, Route, endpoint
from tallybook.validation import what_was_decided


class ValidatePointsEvent(Body):
    """The event to decide; none for the oldest that are pending."""

    event_id: UUID | None = None


validate_points_event = endpoint(
    Route(
        slug="validate-points-event",
        procedure="validate_points_events",
        body=ValidatePointsEvent,
        callers=SERVICE,
        log=lambda _caller, _body, answer: what_was_decided(answer),
    )
)
