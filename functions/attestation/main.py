"""attestation/challenge and attestation/register: what a device needs before it can vouch."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from tallybook import refusal
from tallybook.body import Body, Key
from tallybook.caller import Caller
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.logs import ATTESTATION_REGISTERED
from tallybook.route import Route
from tallybook.runtime import Runtime

Base64 = Annotated[str, msgspec.Meta(min_length=1, max_length=48_000)]


class Challenge(Body):
    """What the device is about to do, and which platform will vouch for it."""

    purpose: Literal["register", "submit"]
    platform: Literal["ios", "android"]


class Register(Body):
    """A new key of App Attest, what was asked, and what Apple says of the key."""

    key_id: Key
    challenge: Key
    attestation: Base64


def with_project(runtime: Runtime, _caller: Caller, body: Challenge, answer: Answer) -> Answer:
    """An Android app needs the number of the Google Cloud project to ask for a token."""
    if body.platform == "android" and runtime.examiner.play is not None:
        answer["cloud_project_number"] = runtime.examiner.play.project_number
    return answer


def verify(runtime: Runtime, _caller: Caller, body: Register) -> dict[str, Any]:
    """The evidence for the key. Raises Refusal where App Attest is not configured."""
    if runtime.examiner.app_attest is None:
        raise refusal.forbidden("App Attest is not configured here.")
    return {"attestation": runtime.examiner.register(body.key_id, body.challenge, body.attestation)}


def line(
    caller: Caller, _body: Register, answer: Answer
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """One line that says whose key was registered."""
    fields = {"key_id": answer["key_id"], "environment": answer["environment"]}
    yield ATTESTATION_REGISTERED, {"user_id": caller.user_id, **fields}


challenge = endpoint(
    Route(
        slug="attestation/challenge",
        procedure="create_attestation_challenge",
        body=Challenge,
        finish=with_project,
    )
)
register = endpoint(
    Route(
        slug="attestation/register",
        procedure="register_device_key",
        body=Register,
        writes=True,
        consumed=frozenset({"challenge", "attestation"}),
        prepare=verify,
        log=line,
    )
)
