"""What the server and the account allow, as an argument of every check.

Guarantee: immutable; no clock, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streamd.api.account import AccountLimits

NAME_BYTES_MAX = 255
DESCRIPTION_BYTES_MAX = 4096
METADATA_BYTES_MAX = 128 * 1024
REPLICAS_MAX = 5
MS = 1_000_000
SECOND = 1000 * MS
MAX_AGE_NS_MIN = 100 * MS
DUPLICATE_WINDOW_NS = 120 * SECOND
DUPLICATE_WINDOW_NS_MIN = 100 * MS
ACK_WAIT_NS = 30 * SECOND
INACTIVE_NS = 5 * SECOND
IDLE_HEARTBEAT_NS_MIN = 100 * MS
MAX_EXPIRES_NS_MIN = 1 * MS
MAX_WAITING = 512
MAX_ACK_PENDING = 1000


@dataclass(frozen=True)
class Limits:
    """Limits of one account on this server; -1 or 0 is none."""

    account: AccountLimits = field(default_factory=AccountLimits)
    clustered: bool = False  # whether replicas > 1 can be had
    duplicate_window_ns_max: int = 0
    max_ack_pending: int = -1  # of the server, beside the account's
    max_request_batch: int = 0  # of one pull request


def metadata_bytes(metadata: dict[str, str]) -> int:
    """Size of keys and values."""
    return sum(len(key.encode()) + len(text.encode()) for key, text in metadata.items())


def duration_text(duration_ns: int) -> str:
    """A duration as Go prints it: 1h0m10s, 1.5s, 100ms, 5µs, 7ns, 0s."""
    sign, rest = ("-", -duration_ns) if duration_ns < 0 else ("", duration_ns)
    if rest == 0:
        return "0s"
    if rest < SECOND:
        unit, name = (MS, "ms") if rest >= MS else (1000, "µs") if rest >= 1000 else (1, "ns")
        return sign + decimal(rest, unit) + name
    minutes, rest = divmod(rest, 60 * SECOND)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return sign + head + decimal(rest, SECOND) + "s"


def decimal(amount: int, unit: int) -> str:
    """amount / unit without trailing zeros."""
    whole, fraction = divmod(amount, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)
