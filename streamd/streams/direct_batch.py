"""Direct gets of many messages: from a sequence or time on, or the last ones of several subjects, up to a point in time.

Purpose:    one request, its messages in order, an end mark. Long answers go out in pieces, so that others are served between.
Source:     nats-server 2.15.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd._engine import CorruptRecord, record_decode, select
from streamd.api.wire import time_parse
from streamd.store import sequence_of
from streamd.streams.records import SCAN_BYTES, SCAN_RECORDS, stored_headers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamd.api.messages import MsgGetRequest
    from streamd.streams.stream import Stream

SUBJECTS_MAX: Final = 1024


class DirectBatch:
    """One request under way."""

    def __init__(self, stream: Stream, reply: str, request: MsgGetRequest, bytes_max: int) -> None:
        self._stream = stream
        self._reply = reply
        self._request = request
        self._bytes_left = request.max_bytes or bytes_max
        self._batch = request.batch or SUBJECTS_MAX
        self._last_seq = 0
        self._sent = 0
        self._steps = self._last_of_subjects() if request.multi_last else self._from_start()

    def step(self) -> None:
        """One piece of the answer; plans the next."""
        stream = self._stream
        if stream.closed or stream.offline is not None:
            return
        try:
            more = next(self._steps, None) is not None
        except CorruptRecord as error:
            stream.damaged(error)
            self._status(f"500 {stream.offline}")
            return
        if more:
            stream.services.clock.call_soon(self.step)

    def _from_start(self) -> Iterator[int]:
        stream, request = self._stream, self._request
        start = max(request.seq, 1)
        if request.start_time:
            start = stream.first_since(time_parse(request.start_time)[0])
        filters = [request.next_by_subj] if request.next_by_subj else []
        # What is stored while the answer goes out isn't part of it, as it isn't counted.
        upto = stream.committed_seq
        pending = 0
        if start <= upto:
            pending = yield from stream.count_pending(filters, start)
        if not pending:
            self._status("404 Message Not Found")
            return
        sequence, going = max(start, stream.state.first_seq), self._batch > 0
        while going and sequence <= upto:
            limit = SCAN_RECORDS if filters else min(self._batch - self._sent, SCAN_RECORDS)
            values, covered = stream.read(sequence, limit, SCAN_BYTES)
            matching = set(select(values, filters))
            for value in values:
                if sequence_of(value) not in matching or sequence_of(value) > upto:
                    continue
                pending -= 1
                going = self._send(value, pending)
                if not going:
                    break
            sequence = covered + 1
            yield len(values)
        self._end(pending, {})

    def _last_of_subjects(self) -> Iterator[int]:
        stream, request = self._stream, self._request
        upto = stream.committed_seq
        if request.up_to_seq:
            upto = min(request.up_to_seq, upto)
        if request.up_to_time:
            upto = min(stream.first_since(time_parse(request.up_to_time)[0]) - 1, upto)
        if upto >= stream.state.last_seq:
            lasts: Sequence[int] = stream.last_per_subject(request.multi_last)
        else:
            found: dict[str, int] = {}
            sequence = stream.state.first_seq
            while sequence <= upto and len(found) <= SUBJECTS_MAX:
                values, covered = stream.read(sequence, min(SCAN_RECORDS, upto - sequence + 1), SCAN_BYTES)
                matching = set(select(values, request.multi_last))
                for value in values:
                    if sequence_of(value) in matching and sequence_of(value) <= upto:
                        found[record_decode(value).subject] = sequence_of(value)
                sequence = covered + 1
                yield len(values)
            lasts = sorted(found.values())
        lasts = [sequence for sequence in lasts if sequence >= request.seq]
        if len(lasts) > SUBJECTS_MAX:
            self._status("413 Too Many Results")
            return
        if not lasts:
            self._status("404 No Results")
            return
        pending = len(lasts)
        for last in stream.get_many(lasts):
            pending -= 1
            if last is not None and not self._send(last, pending):
                break
        self._end(pending, {"Nats-UpTo-Sequence": upto})

    def _send(self, value: bytes, pending: int) -> bool:
        """Send one message. False: it was the last one, as the batch or max_bytes is reached."""
        record = record_decode(value)
        size = len(record.subject.encode("utf-8", "surrogateescape")) + len(record.headers) + len(record.payload)
        self._bytes_left -= size
        headers = b""
        if not self._request.no_hdr:
            more = f"Nats-Num-Pending: {pending}\r\nNats-Last-Sequence: {self._last_seq}\r\n\r\n"
            headers = stored_headers(self._stream.name, value).removesuffix(b"\r\n") + more.encode()
        self._stream.services.bus.publish(self._reply, record.payload, headers=headers)
        self._last_seq = record.sequence
        self._sent += 1
        return self._sent < self._batch and self._bytes_left > 0

    def _end(self, pending: int, more: dict[str, int]) -> None:
        fields = {"Nats-Num-Pending": pending, "Nats-Last-Sequence": self._last_seq, **more}
        self._status("204 EOB", "".join(f"{name}: {number}\r\n" for name, number in fields.items()))

    def _status(self, status: str, lines: str = "") -> None:
        headers = f"NATS/1.0 {status}\r\n{lines}\r\n".encode()
        self._stream.services.bus.publish(self._reply, b"", headers=headers)
