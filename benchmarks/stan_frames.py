"""Prebuilt bytes of NATS Streaming: protobuf by hand, for hot loops that only move bytes and for the
few requests around them. Guarantee: frames of one ring have one length, so a window is a slice.
Source: the STAN protocol (package pb, proto3)."""

from __future__ import annotations

import random
import string

from benchmarks.frames import MARK, pub_body

#: Opens every payload and can't be made of the numbers around it; no end of it is a start of it.
TILDES = b"~=~>"
#: What a client's ids are made of, and how long they are.
LETTERS = string.ascii_letters + string.digits
ID_CHARS = 22
#: SubscriptionRequest.startPosition.
FIRST = 4

Fields = dict[int, int | bytes]
Values = dict[int, int | bytes | str]


def varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def message(fields: Values) -> bytes:
    """A protobuf message of these fields, in this order; an empty or zero one is left out."""
    data = b""
    for number, value in fields.items():
        if isinstance(value, int):
            data += varint(number << 3) + varint(value) if value else b""
        elif value:
            raw = value.encode() if isinstance(value, str) else value
            data += varint(number << 3 | 2) + varint(len(raw)) + raw
    return data


def parsed(data: bytes) -> Fields:
    """The fields of a message; of a repeated one the last. Errors: IndexError or ValueError where it is none."""
    fields: Fields = {}
    at = 0
    while at < len(data):
        tag, at = number_at(data, at)
        value, at = number_at(data, at)
        if tag & 7 == 0:
            fields[tag >> 3] = value
        elif tag & 7 == 2:
            fields[tag >> 3] = data[at : at + value]
            at += value
        else:
            raise ValueError(f"wire type {tag & 7} in {data!r}")
    return fields


def number_at(data: bytes, at: int) -> tuple[int, int]:
    """The varint at `at`, and where the next thing starts."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def words(data: bytes, number: int) -> str:
    """A string field of a message, empty where it is absent."""
    value = parsed(data).get(number, b"")
    return value.decode() if isinstance(value, bytes) else str(value)


def made_up(seed: int) -> str:
    """An id as the Go client makes them, always the same one for the same seed."""
    return "".join(random.Random(seed).choices(LETTERS, k=ID_CHARS))


def payload(size: int) -> bytes:
    return TILDES + b"x" * (size - len(TILDES))


def publish(prefix: str, channel: str, client: str, connection: str, guid: str, size: int, reply: str) -> bytes:
    """A publish as the Go client sends it."""
    body = message({1: client, 2: guid, 3: channel, 5: payload(size), 6: connection})
    return pub_body(f"{prefix}.{channel}", reply, body)


def guids(count: int) -> list[str]:
    """Distinct ids with one MARK each: an ack repeats it, so counting marks counts acks."""
    start = made_up(0)[: ID_CHARS - 8]
    return [f"{start}{number:07}{MARK.decode()}" for number in range(count)]


def ack_tail(channel: str, sequence: int) -> bytes:
    """An ack without the `PUB` and the ack inbox before it."""
    body = message({1: channel, 2: sequence})
    return b" %d\r\n%b\r\n" % (len(body), body)
