"""What Apple's own devices sent, and whom the tests' own attestations are for."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tallybook.attestation.app_attest import AppAttestPolicy, AttestedKey, verify_attestation
from tallybook.attestation.evidence import Rejected

FIXTURES = Path(__file__).parent / "fixtures"

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
APP = "TEAM123456.dev.tallybook.example"
OTHER_APP = "TEAM123456.dev.tallybook.other"
HASH = bytes(range(32))


@dataclass(frozen=True)
class Sample:
    """A fixture, and the first and the last second of its leaf certificate."""

    name: str
    valid_from: datetime
    valid_until: datetime

    def __getitem__(self, member: str) -> bytes:
        return base64.b64decode(self._members[member])

    def said(self, member: str) -> Any:
        return self._members.get(member)

    def policy(self, *environments: Any) -> AppAttestPolicy:
        allowed = environments or (self.said("environment"),)
        return AppAttestPolicy(frozenset({self.said("app_id")}), frozenset(allowed))

    def verify(self, at: datetime | None = None, **other: Any) -> AttestedKey:
        given: dict[str, Any] = {
            "attestation": self["attestation"],
            "key_id": self["key_id"],
            "client_data_hash": self["client_data_hash"],
            "policy": self.policy(),
            "at": at or self.valid_from,
        }
        return verify_attestation(**given | other)

    @property
    def _members(self) -> dict[str, Any]:
        return json.loads((FIXTURES / f"{self.name}.json").read_text())


def _utc(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)  # type: ignore[arg-type, misc]


SAMPLES = [
    Sample("apple_2024", _utc(2024, 4, 17, 16, 14, 53), _utc(2024, 4, 20, 16, 14, 53)),
    Sample("apple_2026", _utc(2026, 4, 20, 18, 13, 12), _utc(2026, 4, 23, 18, 13, 12)),
    Sample("node_app_attest_development", _utc(2024, 2, 3, 20, 27, 6), _utc(2025, 1, 8, 6, 21, 6)),
    Sample(
        "node_app_attest_production", _utc(2024, 2, 6, 21, 8, 56), _utc(2024, 12, 21, 12, 42, 56)
    ),
]


def refused(reason: str) -> pytest.RaisesExc[Rejected]:
    """The context in which Rejected is raised, and for this reason."""
    return pytest.RaisesExc(Rejected, check=lambda rejected: rejected.reason == reason)
