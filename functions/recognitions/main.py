"""recognitions/*: members of a company recognize one another, with points or without, see what was
given, and managers revoke it. They go on while the allocation of points is switched off."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from msgspec import Meta

from tallybook.body import Body, Key, Name
from tallybook.caller import Caller
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.logs import TENANTS_RECOGNITION_REVOKED, TENANTS_RECOGNIZED
from tallybook.refusal import invalid_body
from tallybook.route import SERVICE, USERS, Route
from tallybook.runtime import Runtime

RECOGNITIONS: Final = "/api/recognitions"
RECIPIENTS_MAX: Final = 200

Recipients = Annotated[list[UUID], Meta(min_length=1, max_length=RECIPIENTS_MAX)]
Lines = Iterable[tuple[str, Mapping[str, Any]]]


class GiveRecognition(Body, kw_only=True):
    """Whom: one or many; for what; and how many points each, or all of them with an equal split."""

    to_user_id: UUID | None = None
    to_user_ids: Recipients | None = None
    points: Decimal | None = None
    message: Annotated[str, Meta(min_length=1, max_length=2000)]
    recognition_type: Literal["standard", "individual_award", "group_award", "ecard"] = "standard"
    award_tier: Name | None = None
    split: Literal["flat", "equal"] = "flat"
    visibility: Literal["public", "private", "department"] = "public"
    tenant_id: UUID | None = None
    idempotency_key: Key | None = None


class ListRecognitions(Body):
    """Which recognitions, the newest first: those one may see, or those one gave or got."""

    tenant_id: UUID | None = None
    scope: Literal["all", "given", "received"] = "all"
    limit: Annotated[int, Meta(ge=1, le=100)] = 25
    cursor: Key | None = None


class RevokeRecognition(Body):
    """Which recognition, and why. A program, or an administrator, names the company."""

    recognition_id: UUID
    reason: Annotated[str, Meta(max_length=1000)]
    tenant_id: UUID | None = None


def recipients(_runtime: Runtime, _caller: Caller, body: GiveRecognition) -> dict[str, Any]:
    """All whom it names, in either way. Consumes to_user_id and to_user_ids."""
    one = [body.to_user_id] if body.to_user_id is not None else []
    named = [*one, *(body.to_user_ids or ())]
    if not named:
        raise invalid_body("It must say whom: to_user_id, or to_user_ids.", "$.to_user_id")
    return {"recipients": named}


def what_was_given(caller: Caller, body: GiveRecognition, answer: Answer) -> Lines:
    """One line a recognition."""
    fields = {name: answer[name] for name in ("recognition_id", "points", "funded_by")}
    yield TENANTS_RECOGNIZED, {"from_user_id": caller.user_id, **fields}


def what_was_revoked(caller: Caller, body: RevokeRecognition, answer: Answer) -> Lines:
    """One line for what was taken back."""
    fields = {name: answer[name] for name in ("recognition_id", "points")}
    yield TENANTS_RECOGNITION_REVOKED, {"revoked_by": caller.user_id, **fields}


give = endpoint(
    Route(
        slug="recognitions/give",
        paths=(RECOGNITIONS,),
        procedure="give_recognition",
        body=GiveRecognition,
        key="idempotency_key",
        key_required=False,
        consumed=frozenset({"to_user_id", "to_user_ids"}),
        prepare=recipients,
        log=what_was_given,
    )
)
list = endpoint(
    Route(
        slug="recognitions/list",
        paths=(f"GET {RECOGNITIONS}",),
        procedure="list_recognitions",
        body=ListRecognitions,
    )
)
revoke = endpoint(
    Route(
        slug="recognitions/revoke",
        paths=(f"{RECOGNITIONS}/{{recognition_id}}/revoke",),
        procedure="revoke_recognition",
        body=RevokeRecognition,
        callers=USERS | SERVICE,
        writes=True,
        log=what_was_revoked,
    )
)
