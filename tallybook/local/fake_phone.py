"""A telephone that plays the app's part: asks for a challenge, has its platform vouch, submits.

On request it goes wrong in one thing, and in everything else it stays right: what the server then
says is about that one thing.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Literal
from uuid import uuid4

import httpx
import msgspec

from tallybook.attestation.binding import (
    CHALLENGE_BYTES,
    base64url,
    base64url_decode,
    client_data_hash,
)
from tallybook.attestation.examiner import CHALLENGE_HEADER, KEY_HEADER, TOKEN_HEADER
from tallybook.local.fake_apple_key import FakeAppleKey
from tallybook.local.fake_platforms import APP_ID, FakePlatforms

Platform = Literal["ios", "android"]

FUNCTIONS: Final = "/functions/v1/"
SUBMIT: Final = "submit-points-event"
OTHER_APP: Final = "com.example.other"

WRONG_OF_GOOGLE: Final[Mapping[str, Mapping[str, Any]]] = {
    "app-id": {"requestDetails__requestPackageName": OTHER_APP},
    "certificate": {"appIntegrity__certificateSha256Digest": [base64url(bytes(32))]},
    "changed-app": {"appIntegrity__appRecognitionVerdict": "UNRECOGNIZED_VERSION"},
    "device": {"deviceIntegrity__deviceRecognitionVerdict": []},
    "licence": {"accountDetails__appLicensingVerdict": "UNLICENSED"},
    "testing": {"testingDetails__isTestingResponse": True},
}
"""What is wrong with the payload that Google seals, by the thing that goes wrong."""

WRONG: Final[Mapping[Platform, tuple[str, ...]]] = {
    "ios": ("body", "challenge", "counter", "key", "app-id", "environment"),
    "android": ("body", "challenge", "age", "token", *WRONG_OF_GOOGLE),
}
"""What can go wrong on which platform."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request and its answer; `headers` without the credentials."""

    function: str
    headers: dict[str, str]
    body: bytes
    status: int
    answer: dict[str, Any]

    @property
    def accepted(self) -> bool:
        return self.status < 400


@dataclass
class FakePhone:
    """A telephone over `client`, whose base URL and credentials are its user's.

    `wrong` is one of WRONG for its platform, or None; a `classic` one asks Google the old way.
    """

    client: httpx.Client
    platforms: FakePlatforms
    platform: Platform
    wrong: str | None = None
    classic: bool = False
    key: FakeAppleKey = field(default_factory=FakeAppleKey)

    def play(self, event: Mapping[str, Any]) -> Iterator[Step]:
        """The whole exchange, step by step, until one is refused. Raises httpx.TransportError."""
        for step in self._steps(event):
            yield step
            if not step.accepted:
                return

    def _steps(self, event: Mapping[str, Any]) -> Iterator[Step]:
        if self.platform == "ios" and self.wrong != "key":
            asked = self._ask("register")
            yield asked
            yield self._register(asked.answer["challenge"])
        if self.wrong == "counter":
            # Something right before it, so that the same number comes a second time.
            yield from self._submit({**event, "nonce": uuid4().hex})
            self.key.counter -= 1
        yield from self._submit(event)

    def _ask(self, purpose: str) -> Step:
        body = msgspec.json.encode({"purpose": purpose, "platform": self.platform})
        return self._post("attestation/challenge", body)

    def _register(self, challenge: str) -> Step:
        attestation = self.platforms.apple.attest(
            self.key,
            self._app_id,
            sha256(base64url_decode(challenge)).digest(),
            "development" if self.wrong == "environment" else "production",
            datetime.now(UTC),
        )
        registration = {
            "key_id": _base64(self.key.key_id),
            "challenge": challenge,
            "attestation": _base64(attestation),
        }
        return self._post("attestation/register", msgspec.json.encode(registration))

    def _submit(self, event: Mapping[str, Any]) -> Iterator[Step]:
        asked = self._ask("submit")
        yield asked
        challenge = asked.answer["challenge"]
        if self.wrong == "challenge":
            challenge = base64url(secrets.token_bytes(CHALLENGE_BYTES))
        sent = msgspec.json.encode(event)
        signed = sent + b" " if self.wrong == "body" else sent
        path = FUNCTIONS + SUBMIT
        hashed = client_data_hash("POST", path, base64url_decode(challenge), signed)
        evidence = self._assertion(hashed) if self.platform == "ios" else self._token(hashed)
        yield self._post(SUBMIT, sent, {CHALLENGE_HEADER: challenge, **evidence})

    def _assertion(self, hashed: bytes) -> dict[str, str]:
        assertion = self.key.assert_(hashed, self._app_id)
        return {KEY_HEADER: _base64(self.key.key_id), TOKEN_HEADER: _base64(assertion)}

    def _token(self, hashed: bytes) -> dict[str, str]:
        google = self.platforms.google
        at = datetime.now(UTC) - timedelta(hours=self.wrong == "age")
        wrong = WRONG_OF_GOOGLE.get(self.wrong or "", {})
        payload = google.payload(base64url(hashed), at, self.classic, **wrong)
        token = google.classic_token(payload) if self.classic else google.standard_token(payload)
        # Its last character changed, and still base64url: what was sealed cannot be opened.
        return {TOKEN_HEADER: f"{token[:-4]}AAAA" if self.wrong == "token" else token}

    @property
    def _app_id(self) -> str:
        return f"TALLYBOOK1.{OTHER_APP}" if self.wrong == "app-id" else APP_ID

    def _post(self, function: str, body: bytes, headers: Mapping[str, str] | None = None) -> Step:
        evidence = dict(headers or {})
        sent = {"content-type": "application/json", **evidence}
        answer = self.client.post(FUNCTIONS + function, content=body, headers=sent)
        try:
            said = msgspec.json.decode(answer.content, type=dict[str, Any])
        except msgspec.MsgspecError:
            said = {"detail": answer.text[:200]}
        return Step(function, evidence, body, answer.status_code, said)


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
