"""What a single word of a configuration means: numbers, sizes, booleans, times, strings, durations.

Guarantee: a word is read as nats-server reads it, so `10k` is a number, `3f5a` a string and `1.5s` an error.
Errors:    ValueError with a text for people; the caller knows the place.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_BOOLEANS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_INTEGER: Final = re.compile(r"-?[0-9]+")
_DECIMAL: Final = re.compile(r"-?[0-9]+\.[0-9]+")
_SIZED: Final = re.compile(r"(-?[0-9]+)([kmgtpe])(b|ib?)?", re.IGNORECASE)
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_ESCAPE: Final = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b'"': b'"', b"\\": b"\\"}
_POWERS: Final = "kmgtpe"
_INT64_MAX: Final = 2**63 - 1
BCRYPT: Final = "$2a$"

NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # the micro sign
    "μs": 1_000,  # the Greek letter
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")


def word(text: str) -> str | int | float | bool | datetime:
    """The value of a bare word that is no variable."""
    if (boolean := _BOOLEANS.get(text.lower())) is not None:
        return boolean
    if _INTEGER.fullmatch(text):
        return _int64(text, int(text) if len(text) <= 20 else _INT64_MAX + 1)
    if sized := _SIZED.fullmatch(text):
        digits, prefix, binary = sized.groups()
        power = _POWERS.index(prefix.lower()) + 1
        number = int(digits) if len(digits) <= 20 else _INT64_MAX + 1
        return _int64(text, number * (1024 if binary else 1000) ** power)
    if _DECIMAL.fullmatch(text):
        return float(text)
    if _TIME.fullmatch(text):
        try:
            return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise ValueError(f'"{text}" is no date and time') from None
    if text[0] == "-":
        raise ValueError(f'expected a number, but got "{text}": quote it if it is a string')
    if text[0] == ".":
        raise ValueError(f'a decimal starts with a digit: write "0{text}", or quote it if it is a string')
    if re.match(r"[0-9]+-", text):
        raise ValueError(f'a time is written YYYY-MM-DDTHH:MM:SSZ, got "{text}": quote it if it is a string')
    if re.match(r"[0-9]+\.(?![0-9])|[0-9]+\.[0-9]+[^.0-9]", text):
        raise ValueError(f'"{text}" is no number: quote it if it is a string or a duration')
    return unescape(text)


def unescape(text: str) -> str:
    r"""A string with its escapes resolved: \n \t \r \" \\ and \xHH, a byte.

    Shapes:  bytes that form no UTF-8 come back as lone surrogates (surrogateescape).
    """
    if "\\" not in text:
        return text
    raw = text.encode("utf-8", "surrogateescape")

    def one(found: re.Match[bytes]) -> bytes:
        escape = found.group(1)
        if escape[:1] == b"x" and len(escape) == 3:
            return bytes([int(escape[1:], 16)])
        if escape == b"x":
            raise ValueError(r"expected two hexadecimal digits after \x")
        if (known := _ESCAPES.get(escape)) is None:
            shown = escape.decode("utf-8", "replace")
            raise ValueError(f'unknown escape "\\{shown}": there are \\n \\t \\r \\" \\\\ and \\xHH')
        return known

    if raw.endswith(b"\\") and (len(raw) - len(raw.rstrip(b"\\"))) % 2:
        raise ValueError("a backslash escapes nothing at the end")
    return _ESCAPE.sub(one, raw).decode("utf-8", "surrogateescape")


def _int64(text: str, number: int) -> int:
    if not -_INT64_MAX - 1 <= number <= _INT64_MAX:
        raise ValueError(f'integer "{text}" is out of range')
    return number


def duration_ns(text: str) -> int:
    """Nanoseconds of a duration as Go writes it: "1h30m", "1.5s", "500ms", "0"; a sign may lead."""
    sign, rest = (-1 if text[:1] == "-" else 1), text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    total, at = 0, 0
    while at < len(rest):
        found = _DURATION.match(rest, at)
        if found is None or not (found.group(1) or found.group(2)):
            break
        whole, fraction, unit = found.group(1) or "0", found.group(2) or "", found.group(3)
        scale = NANOSECONDS[unit]
        if len(whole) > 20 or len(fraction) > 30:
            break
        total += int(whole) * scale
        total += int(fraction or "0") * scale // 10 ** len(fraction)
        at = found.end()
    if not rest or at < len(rest) or total > _INT64_MAX:
        raise ValueError(f'expected a duration such as "30s" or "1h30m" (units ns, us, ms, s, m, h), got "{text}"')
    return sign * total


def duration_text(nanoseconds: int) -> str:
    """A duration as Go prints it: `1h30m0s`, `1.5s`, `250ms`, `0s`."""
    sign, rest = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    if rest < NANOSECONDS["s"]:
        unit = next((unit for unit in ("ms", "µs", "ns") if rest >= NANOSECONDS[unit]), "s")
        return f"{sign}{_decimal(rest, NANOSECONDS[unit])}{unit}"
    minutes, rest = divmod(rest, NANOSECONDS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, NANOSECONDS['s'])}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else sign + text


def _decimal(number: int, unit: int) -> str:
    whole, fraction = divmod(number, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)
