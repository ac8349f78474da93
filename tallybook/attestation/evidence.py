"""What comes of looking at a device's evidence. A status is no score: the trust rules weigh it."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """What is known of the device that sent a request."""

    VERIFIED = "verified"
    FAILED = "failed"  # the evidence is wrong: the request is refused
    MISSING = "missing"  # attestation is configured, and none came
    UNSUPPORTED = "unsupported"  # the device says that it cannot, or sent what is bound to nothing
    UNAVAILABLE = "unavailable"  # it could not be checked now; the worker checks it later
    NOT_CONFIGURED = "not_configured"  # nobody set it up for this platform: neutral


class Rejected(Exception):
    """The evidence is wrong. `reason` is a stable code, `detail` a sentence for the log."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Unavailable(Exception):
    """The evidence could not be checked now, which is never the user's fault.

    `ours` says that it is our configuration's, such as a key that Google refuses: somebody must
    be told.
    """

    def __init__(self, reason: str, *, ours: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.ours = ours
