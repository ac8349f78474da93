"""submit-points-event: an app says what happened; validation decides later what it is worth."""

from typing import Any
from uuid import UUID

from tallybook.body import Body, Key, Name, Time
from tallybook.endpoint import endpoint
from tallybook.logs import POINTS_EVENT_SUBMITTED
from tallybook.route import Route


class SubmitPointsEvent(Body):
    """What happened, when, and under which nonce. The points are the server's to decide.

    A device's evidence comes in the headers, because it signs these very bytes. What is in the body
    is bound to nothing, so it proves nothing: it is taken, for the sake of old apps, and left.
    """

    event_type: Name
    event_time: Time
    nonce: Key | None = None
    proof_type: Name | None = None
    related_entity_type: Name | None = None
    related_entity_id: UUID | None = None
    proof_payload: dict[str, Any] | None = None
    attestation: dict[str, Any] | None = None
    attestation_token: str | None = None
    device_id: Key | None = None
    device_info: dict[str, Any] | None = None


submit_points_event = endpoint(
    Route(
        slug="submit-points-event",
        procedure="submit_points_event",
        body=SubmitPointsEvent,
        status=202,
        key="nonce",
        address=True,
        attested=True,
        consumed=frozenset({"attestation", "attestation_token"}),
        log=lambda caller, body, answer: [
            (
                POINTS_EVENT_SUBMITTED,
                {
                    "user_id": caller.user_id,
                    "event_type": body.event_type,
                    "event_id": answer["id"],
                    "nonce": body.nonce,
                    "trust_score": None,  # not judged yet
                },
            )
        ],
    )
)
