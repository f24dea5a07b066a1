"""What clients of a simulated cluster were promised, and whether it is so.

Guarantee:  a broken promise raises Violation: no acked message is lost, none is stored twice under its id, sequences of one
            publisher keep its order, what is confirmed as acked isn't sent again by any leader of then or later.
Allowed:    a leader that is none any more, and doesn't know it yet, sends what the next one has confirmed. So what comes
            again must have been sent by such a one.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from streamd._engine import record_decode
from streamd.sim.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamd._engine import Record
    from streamd.store import LogWork


class History:
    """Of the stream ORDERS and its consumer."""

    def __init__(self) -> None:
        self.sent_ids: set[str] = set()
        self.sequences: dict[str, int] = {}  # by message id, as acked
        self.streams: dict[str, int] = {}  # others that are there: their replicas
        self._payloads: dict[int, bytes] = {}
        self._last: dict[str, tuple[int, int]] = {}  # of a publisher: its last number that was acked, and the sequence
        self._term = 0  # the latest of all leaders that have served the consumer
        self._confirmed: dict[int, tuple[int, int]] = {}  # acks that were confirmed: when, and by which term
        self._outdated: dict[int, int] = {}  # when a leader of an earlier term sent such a message last

    # what clients see

    def sent(self, message_id: str) -> None:
        """A publish goes out, perhaps again."""
        self.sent_ids.add(message_id)

    def acked(self, publisher: str, number: int, message_id: str, sequence: int, *, in_order: bool) -> None:
        """A publish was acked, perhaps as a duplicate."""
        before = self.sequences.setdefault(message_id, sequence)
        if before != sequence:
            raise Violation(f"message {message_id} was acked as {before}, and now as {sequence}")
        self._holds(sequence, message_id.encode())
        if in_order:
            last_number, last = self._last.get(publisher, (0, 0))
            if last_number < number and last >= sequence:
                raise Violation(f"message {message_id} is at {sequence}, and the one before it at {last}")
            self._last[publisher] = number, sequence

    def delivered(self, sequence: int, payload: bytes, pulled_ns: int) -> None:
        """A message came for a pull."""
        self._holds(sequence, payload)
        confirmed_ns, _ = self._confirmed.get(sequence, (pulled_ns, 0))
        if confirmed_ns < pulled_ns and self._outdated.get(sequence, 0) < pulled_ns:
            raise Violation(f"message {sequence} came again, whose ack was confirmed")

    def confirmed(self, sequence: int, now_ns: int) -> None:
        """The ack of a message is safe."""
        self._confirmed.setdefault(sequence, (now_ns, self._term))

    # what servers do

    def served(self, term: int, sent: Iterable[int], now_ns: int) -> None:
        """The leader of that term has served the consumer, and sent these messages just now."""
        self._term = max(self._term, term)
        for sequence in sent:
            if sequence in self._confirmed:
                _, by = self._confirmed[sequence]
                if term >= by:
                    raise Violation(f"message {sequence} is sent again in term {term}, and was confirmed by term {by}")
                self._outdated[sequence] = now_ns

    def _holds(self, sequence: int, payload: bytes) -> None:
        known = self._payloads.setdefault(sequence, payload)
        if known != payload:
            raise Violation(f"sequence {sequence} is {known!r}, and also {payload!r}")

    # at the end

    def look(self, node: str, records: Sequence[Record]) -> None:
        """A replica holds what was promised. Errors: Violation."""
        places: dict[str, int] = {}
        for number, record in enumerate(records, 1):
            if record.sequence != number:
                raise Violation(f"{node}: sequence {number} is missing, the next one is {record.sequence}")
            message_id = record.payload.decode()
            if message_id not in self.sent_ids:
                raise Violation(f"{node}: nobody published {message_id} at {number}")
            if message_id in places:
                raise Violation(f"{node}: {message_id} is at {places[message_id]} and again at {number}")
            places[message_id] = number
        for message_id, sequence in self.sequences.items():
            if places.get(message_id) != sequence:
                raise Violation(f"{node}: {message_id} was acked at {sequence}, and is at {places.get(message_id)}")


class Copies:
    """What replicas write to their disks of one stream: every record is the same everywhere."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._known: dict[int, tuple[int, str]] = {}  # checksum, and who wrote it first

    def wrote(self, node: str, part: LogWork) -> None:
        """A work has become durable. Errors: Violation."""
        for records in part.appends:
            for _, value in records:
                sequence = record_decode(value).sequence
                crc, other = self._known.setdefault(sequence, (zlib.crc32(value), node))
                if crc != zlib.crc32(value):
                    raise Violation(f"stream {self.name}: {node} stores another message {sequence} than {other}")
