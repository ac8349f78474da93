"""How Android and Play name an app: by its package, and by the certificate it is signed with."""

from __future__ import annotations

import re
from typing import Final

from tallybook.attestation.binding import base64url, base64url_decode

_PACKAGE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")


def certificate_digest(text: str) -> str:
    """A certificate's SHA-256 as payloads have it, from that or from hexadecimal with colons.

    The Play console and keytool show hexadecimal. Raises ValueError for anything else.
    """
    plain = text.strip()
    digits = plain.replace(":", "")
    if re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        return base64url(bytes.fromhex(digits))
    try:
        digest = base64url_decode(plain.rstrip("="))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise ValueError("a certificate's digest is SHA-256 in hexadecimal or base64url")
    return base64url(digest)


def check_package_name(package_name: str) -> None:
    """ValueError for what cannot be an Android package's name, such as one with a slash."""
    if not _PACKAGE_NAME.fullmatch(package_name):
        raise ValueError("not an Android package name")
