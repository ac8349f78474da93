"""A certificate's digest is written in two ways, and a package's name is a path in an address."""

from __future__ import annotations

import pytest

from tallybook.attestation.android_app import certificate_digest, check_package_name
from tallybook.attestation.binding import base64url

DIGEST = bytes(range(224, 256))


def test_what_the_play_console_shows_is_what_google_says():
    colons = ":".join(f"{byte:02X}" for byte in DIGEST)
    for text in (colons, DIGEST.hex(), f" {colons}\n", base64url(DIGEST), base64url(DIGEST) + "="):
        assert certificate_digest(text) == base64url(DIGEST)


@pytest.mark.parametrize(
    "text", ["", "AA:BB", "zz" * 32, base64url(DIGEST[:20]), base64url(DIGEST) + "A", "é" * 43]
)
def test_what_is_no_sha_256_is_refused(text):
    with pytest.raises(ValueError):
        certificate_digest(text)


def test_a_package_s_name_is_words_and_dots():
    check_package_name("com.example.steps_2")
    for name in (
        "",
        "steps",
        "com..steps",
        "com.2.steps",
        "com.a/b",
        "com.a:b",
        "com.ä",
        "com.a\n",
    ):
        with pytest.raises(ValueError):
            check_package_name(name)
