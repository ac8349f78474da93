"""What verifying a device's evidence costs: how many fit into the 5 ms that one may take.

A bare verification of one ECDSA signature stands beside them: nothing that is verified is cheaper.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from benchmarks.bench import Bench
from benchmarks.rounds import Run, Sample
from tallybook.attestation.app_attest import verify_assertion, verify_attestation
from tallybook.attestation.binding import base64url
from tallybook.attestation.play_integrity import judge
from tallybook.attestation.play_token import open_token
from tallybook.local.fake_apple import FakeApple
from tallybook.local.fake_apple_key import FakeAppleKey
from tallybook.local.fake_google import FakeGoogle

SECONDS_MAX = 0.005
APP = "TEAM567890.com.example.app"
BUDGET = f"{SECONDS_MAX * 1000:g} ms"


def verify(bench: Bench) -> None:
    """App Attest's two checks and a classic Play token, opened and judged."""
    at, asked = datetime.now(UTC), sha256(b"a request").digest()
    apple, key = FakeApple.generate(at), FakeAppleKey()
    policy = apple.policy(APP)
    attestation = apple.attest(key, APP, asked, "production", at)
    assertion = key.assert_(asked, APP)
    google = FakeGoogle.generate("com.example.app")
    token = google.classic_token(google.payload(base64url(asked), at, classic=True))
    signer = ec.generate_private_key(ec.SECP256R1())
    signature = signer.sign(asked, ec.ECDSA(SHA256()))
    plain = signer.public_key()

    def classic() -> None:
        judge(open_token(token, google.classic_keys), asked, google.policy(), at, classic=True)

    contenders = {
        "registration": lambda: verify_attestation(attestation, key.key_id, asked, policy, at),
        "assertion": lambda: verify_assertion(assertion, key.public_key, asked, policy),
        "classic Play token": classic,
        "one signature": lambda: plain.verify(signature, asked, ec.ECDSA(SHA256())),
    }
    # A second is enough: nothing here waits for a disk.
    found = bench.compare(
        "attest", {name: _over_and_over(run) for name, run in contenders.items()}, seconds=1
    )
    for name in list(contenders)[:3]:
        rate = found.median(name)
        fitting = None if rate is None else rate * SECONDS_MAX
        bench.row("attest", f"attestation: {name}", BUDGET, fitting, goal=1.0)
    bench.row(
        "attest",
        "attestation: assertion",
        "one ECDSA signature",
        found.ratio("assertion", "one signature"),
    )


def _over_and_over(run: Callable[[], object]) -> Run:
    def turn(seconds: float) -> Sample:
        began = now = time.perf_counter()
        count = 0
        while now - began < seconds:
            run()
            count += 1
            now = time.perf_counter()
        return Sample(rate=count / (now - began), count=count, seconds=now - began)

    return turn
