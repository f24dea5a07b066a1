"""Prebuilt bytes of the client protocol. Guarantee: every frame of one kind has the same length, so
receivers count bytes instead of parsing. Source: the NATS client protocol (PUB, SUB, MSG)."""

from __future__ import annotations

#: Occurs once in every payload and never in a control line: counting it counts messages.
MARK = b"~"
CONNECT = (
    b'CONNECT {"verbose":false,"pedantic":false,"lang":"bench","version":"1","protocol":1,'
    b'"headers":true,"no_responders":true,"echo":true}\r\n'
)
PING = b"PING\r\n"
PONG = b"PONG\r\n"
#: About this many bytes go into one write of a publisher.
CHUNK_BYTES = 128 * 1024


def payload(size: int) -> bytes:
    return MARK + b"x" * (size - 1)


def pub(subject: str, size: int, reply: str = "") -> bytes:
    head = f"PUB {subject} {reply} {size}" if reply else f"PUB {subject} {size}"
    return head.encode() + b"\r\n" + payload(size) + b"\r\n"


def pub_body(subject: str, reply: str, body: bytes) -> bytes:
    return f"PUB {subject} {reply} {len(body)}\r\n".encode() + body + b"\r\n"


def msg_bytes(subject: str, size: int, reply: str = "") -> int:
    """Length of the MSG frame that a subscription with sid 1 receives."""
    head = f"MSG {subject} 1 {reply} {size}" if reply else f"MSG {subject} 1 {size}"
    return len(head) + 2 + size + 2


def sub(subject: str, sid: int = 1) -> bytes:
    return f"SUB {subject} {sid}\r\n".encode()


def subjects(prefix: str, count: int) -> list[str]:
    """`count` subjects of equal length below `prefix`."""
    width = len(str(count - 1))
    return [f"{prefix}.{number:0{width}}" for number in range(count)]


def flood_chunk(names: list[str], size: int) -> tuple[bytes, int]:
    """One write of a core publisher that walks all subjects, and how many messages it holds."""
    rounds = max(1, CHUNK_BYTES // (len(pub(names[0], size)) * len(names)))
    return b"".join(pub(name, size) for name in names) * rounds, rounds * len(names)


def stored_chunks(names: list[str], size: int, per_chunk: int, chunks: int = 1) -> list[bytes]:
    """Writes of a publisher that wants an ack for each message; together they walk all subjects. With `chunks` of them, so
    many differ: as with a real client, no two messages that are under way are the same."""
    count = max(len(names), per_chunk * chunks)
    assert count % per_chunk == 0
    inboxes = per_chunk * chunks
    frames = [pub(names[n % len(names)], size, f"_INBOX.b.{n % inboxes:05}") for n in range(count)]
    return [b"".join(frames[n : n + per_chunk]) for n in range(0, count, per_chunk)]
