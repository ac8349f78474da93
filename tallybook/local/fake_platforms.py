"""The Apple and the Google that a local stack trusts: made here, and worth nothing elsewhere.

This is the one place that hands a server other roots than the real ones. What a server is told by
its environment makes `attestation.configured.examiner_of`, which knows nothing of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from tallybook.attestation.examiner import Examiner
from tallybook.attestation.google import PlayIntegrity
from tallybook.attestation.play import Play
from tallybook.local import fake_apple, fake_google
from tallybook.local.fake_apple import FakeApple
from tallybook.local.fake_google import FakeGoogle

APP_ID: Final = "TALLYBOOK1.com.example.tallybook"
PACKAGE_NAME: Final = "com.example.tallybook"
PROJECT_NUMBER: Final = "123456789012"

FILES: Final = (fake_apple.FILE, fake_google.FILE)
"""What a folder keeps of them; keys are in it."""


@dataclass(frozen=True)
class FakePlatforms:
    """Both stand-ins, and what a server needs to believe them."""

    apple: FakeApple
    google: FakeGoogle

    @classmethod
    def load_or_create(cls, folder: Path) -> Self:
        """Those of this folder. Two processes that make them at once agree on one of each."""
        return cls(
            FakeApple.load_or_create(folder, datetime.now(UTC)),
            FakeGoogle.load_or_create(folder, PACKAGE_NAME),
        )

    def examiner(self) -> Examiner:
        """An examiner for the demo's app, as strict as one that believes the real platforms.

        Its Google is asked as the real one is, but for the network: with a service account that
        signs in, and tokens that this Google alone can open.
        """
        google = PlayIntegrity(
            self.google.service_account, self.google.package_name, self.google.transport()
        )
        play = Play(self.google.policy(), PROJECT_NUMBER, google, self.google.classic_keys)
        return Examiner(self.apple.policy(APP_ID), play)
