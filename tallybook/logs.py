"""Structured logs: one JSON object a line, secrets struck out, never in the way of a request."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections import deque
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

import msgspec

from tallybook import exact
from tallybook.redaction import REDACTED, is_secret_name, redacted, strike_out_shapes

Level = Literal["debug", "info", "warning", "error"]

# The events that the mission names, with the fields it gives them.
POINTS_EVENT_SUBMITTED: Final = "points.event.submitted"
"""user_id, event_type, event_id, nonce, trust_score"""
POINTS_EVENT_VALIDATED: Final = "points.event.validated"
"""event_id, validation_status, points_awarded, trust_score"""
POINTS_COUPON_REDEEMED: Final = "points.coupon.redeemed"
"""user_id, template_id, coupon_id, points_cost"""
POINTS_FRAUD_DETECTED: Final = "points.fraud.detected"
"""user_id, insight_type, severity, score; level warning"""
POINTS_COUPON_VERIFIED: Final = "points.coupon.verified"
POINTS_COUPON_HELD: Final = "points.coupon.held"
POINTS_COUPON_RELEASED: Final = "points.coupon.released"
POINTS_COUPON_CONSUMED: Final = "points.coupon.consumed"
POINTS_COUPON_REVOKED: Final = "points.coupon.revoked"
POINTS_COUPON_REFUNDED: Final = "points.coupon.refunded"
"""Beside the mission's: coupon_id, and the user_id of whoever did it, None for a program"""
CREDITS_DEDUCTED: Final = "credits.deducted"
"""user_id, transaction_id, cost, model"""
CREDITS_TIER_SWITCHED: Final = "credits.tier.switched"
"""user_id, tier, previous_tier"""
CREDITS_PROMOTION_REDEEMED: Final = "credits.promotion.redeemed"
"""user_id, promotion, discount_type, credits, transaction_id"""
CREDITS_PURCHASED: Final = "credits.purchased"
"""recorded_by, package, credits, amount_due, transaction_id"""
CREDITS_RESERVED: Final = "credits.reserved"
"""user_id, reservation_id, reserved"""
CREDITS_SETTLED: Final = "credits.settled"
"""user_id, transaction_id, cost, charged, shortfall"""
CREDITS_RELEASED: Final = "credits.released"
"""user_id, reservation_id, released"""
CREDITS_ALLOCATED: Final = "credits.allocated"
"""transaction_id, amount, and allocated_by, None for a program"""
CREDITS_REFUNDED: Final = "credits.refunded"
"""transaction_id, refund_of, amount, and refunded_by, None for a program"""
REWARD_REDEEMED: Final = "reward.redeemed"
"""user_id, tenant_id, redemption_id, points_spent"""
REWARD_REFUNDED: Final = "reward.refunded"
"""tenant_id, redemption_id, points_refunded, and refunded_by, None for a program"""
TENANTS_ALLOCATED: Final = "tenants.allocated"
"""message, tenant_id, amount_allocated, allocation_log_id, and allocated_by, None for a program"""
TENANTS_BALANCE: Final = "tenants.balance"
"""message, tenant_id, balance: a pool's after an allocation; level debug"""
TENANTS_CLAWED_BACK: Final = "tenants.clawed_back"
"""tenant_id, amount_clawed_back, platform_log_id, and clawed_back_by, None for a program"""
TENANTS_REVERSED: Final = "tenants.reversed"
"""tenant_id, amount_reversed, allocation_log_id, and reversed_by, None for a program"""
TENANTS_DELEGATED: Final = "tenants.delegated"
"""tenant_id, lead_user_id, amount, delegated_by"""
TENANTS_RECALLED: Final = "tenants.recalled"
"""tenant_id, lead_user_id, amount, recalled_by"""
TENANTS_ADJUSTED: Final = "tenants.adjusted"
"""tenant_id, adjusted_by, platform_log_id, and by, the user_id, None for a program"""
TENANTS_WALLET_CREDITED: Final = "tenants.wallet_credited"
"""tenant_id, user_id, amount, ledger_entry_id, and credited_by, None for a program"""
TENANTS_CREATED: Final = "tenants.created"
"""tenant_id, currency, manager, and created_by, None for a program"""
TENANTS_MEMBER_SET: Final = "tenants.member.set"
"""tenant_id, user_id, role, is_active, and set_by, None for a program"""
TENANTS_DEPARTMENT_SET: Final = "tenants.department.set"
"""tenant_id, department_id, monthly_cap, and set_by, None for a program"""
TENANTS_REWARD_SET: Final = "tenants.reward.set"
"""tenant_id, reward_id, points_cost, stock, is_active, and set_by, None for a program"""
TENANTS_RECOGNIZED: Final = "tenants.recognized"
"""recognition_id, funded_by, and from_user_id, None for a program; how many points"""
TENANTS_RECOGNITION_REVOKED: Final = "tenants.recognition.revoked"
"""recognition_id, points, and revoked_by, None for a program"""
ATTESTATION_REGISTERED: Final = "attestation.registered"
"""user_id, key_id, environment"""
ATTESTATION_FAILED: Final = "attestation.failed"
"""user_id, platform, reason, detail; level warning"""
ATTESTATION_ALERT: Final = "attestation.alert"
"""reason, and what it is about: somebody must look at it; level error"""
OPENROUTER_CONNECTED: Final = "credits.openrouter.connected"
OPENROUTER_DISCONNECTED: Final = "credits.openrouter.disconnected"
"""user_id"""
OPENROUTER_AWAY: Final = "credits.openrouter.away"
"""reason; level warning"""
CREDIT_CACHE_AWAY: Final = "credits.cache.away"
"""error; level warning, at most one a minute"""
POINTS_ERROR: Final = "points.error"
"""operation, error_message, stack_trace; level error"""

KEY_SET_UNREACHABLE: Final = "keys.unreachable"
"""url, error; level warning"""

LINES_WAITING_MAX: Final = 10_000

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Set by whoever answers a request; every line logged for it then says so."""

_RANKS: Final[dict[str, int]] = {"debug": 0, "info": 1, "warning": 2, "error": 3}


def log(event: str, level: Level = "info", **fields: Any) -> None:
    """Write one line: `time` (UTC), `level`, `event`, `request_id` when there is one, the fields.

    Never raises and never waits: lines go to a thread that writes them, and when 10,000 are
    waiting further ones are counted instead (`logs.dropped`). A refusal's code goes under
    `refusal`, because `code` is the name of a coupon's and struck out.
    """
    if _RANKS.get(level, 3) >= _sink.rank_min:
        _sink.put(_line(event, level, fields))


def configure(stream: TextIO | None = None, level: Level = "info") -> None:
    """Choose where lines go (standard error when None) and the lowest level that is written."""
    _sink.flush()
    _sink.stream = stream
    _sink.rank_min = _RANKS[level]


def flush(seconds_max: float = 2.0) -> bool:
    """Wait until everything logged so far is written; False when that takes too long."""
    return _sink.flush(seconds_max)


def _line(event: str, level: str, fields: dict[str, Any]) -> bytes:
    record: dict[str, Any] = {"time": datetime.now(UTC), "level": level, "event": event}
    current = request_id.get()
    if current is not None:
        record["request_id"] = current
    try:
        for name, value in fields.items():
            shown = REDACTED if is_secret_name(name) else redacted(value)
            record.setdefault(name, shown)
        line = exact.encode(record)
    except Exception as error:
        # A log line that cannot be made must not cost the request that wanted it.
        line = msgspec.json.encode(
            {
                "time": datetime.now(UTC),
                "level": "error",
                "event": "logs.unwritable",
                "of_event": str(event),
                "error": type(error).__name__,
            }
        )
    return strike_out_shapes(line, thoroughly=level in ("warning", "error")) + b"\n"


class _Sink:
    """Lines waiting to be written, and the thread that writes them, started by the first line."""

    def __init__(self) -> None:
        self.stream: TextIO | None = None
        self.rank_min = _RANKS["info"]
        self.begin()

    def begin(self) -> None:
        """Start empty: at first, and in a forked child, which has the lines but not the thread."""
        self._waiting: deque[bytes] = deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, line: bytes) -> None:
        if len(self._waiting) >= LINES_WAITING_MAX:
            self._dropped += 1
            return
        self._waiting.append(line)
        if not self._wake.is_set():
            self._idle.clear()
            self._wake.set()
            if self._thread is None:
                self._start()

    def flush(self, seconds_max: float = 2.0) -> bool:
        if self._thread is None:
            # No thread was to be had: what waits is written here and now.
            self._write_waiting()
            return True
        return self._idle.wait(seconds_max)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._write_for_ever, name="logs", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # The interpreter is going down, or no thread is to be had.
                self._thread = thread

    def _write_for_ever(self) -> None:
        while True:
            self._wake.wait()
            # Cleared before the lines are taken: one that is added meanwhile sets it again.
            self._wake.clear()
            self._write_waiting()
            if not self._wake.is_set():
                self._idle.set()
                if self._wake.is_set():
                    self._idle.clear()

    def _write_waiting(self) -> None:
        lines = []
        while self._waiting:
            lines.append(self._waiting.popleft())
        if self._dropped:
            lines.append(_line("logs.dropped", "warning", {"lines": self._dropped}))
            self._dropped = 0
        stream = self.stream or sys.stderr
        try:
            stream.write(b"".join(lines).decode())
            stream.flush()
        except Exception:
            # Nowhere is left to tell it; a closed or full stream must not end the thread.
            return


_sink: Final = _Sink()
atexit.register(flush)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sink.begin)
