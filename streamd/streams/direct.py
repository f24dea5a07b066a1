"""Direct gets: reads of single messages, a batch of requests at a time, resolved and answered natively.

Source: interop 6.9. The batch forms (batch, multi_last) come later and are refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd._engine import CorruptRecord, record_decode, reply_direct
from streamd.api.messages import MsgGetRequest, direct_batch, direct_request
from streamd.api.metadata import level_refused
from streamd.api.wire import time_parse, time_text

if TYPE_CHECKING:
    from streamd._engine import Batch, Message
    from streamd.core.bus import Binding
    from streamd.streams.stream import Stream

QUEUE = "_sys_"


class DirectGets:
    """The direct-get service of one stream, while its configuration allows it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._binding: Binding | None = None
        self._prefix = f"$JS.API.DIRECT.GET.{stream.name}"

    def reconfigure(self) -> None:
        """Serve or stop serving as the configuration says."""
        allowed = self._stream.config.allow_direct and not self._stream.closed
        if allowed and self._binding is None:
            subjects = [self._prefix, self._prefix + ".>"]
            self._binding = self._stream.services.bus.bind(subjects, self._serve, queue=QUEUE)
        elif not allowed:
            self.close()

    def close(self) -> None:
        """Stop serving."""
        if self._binding is not None:
            self._binding.close()
            self._binding = None

    def _serve(self, batch: Batch) -> None:
        stream, bus = self._stream, self._stream.services.bus
        if stream.offline is not None:
            for index in range(len(batch)):
                self._status(batch[index], f"500 {stream.offline}")
            return
        sequences = stream.state.direct(batch, self._prefix)
        # What is admitted but not yet durable is not there yet.
        skip = [sequence < 0 or sequence > stream.committed_seq for sequence in sequences]
        try:
            wanted = [sequence if not skipped else 0 for sequence, skipped in zip(sequences, skip, strict=True)]
            reply_direct(bus.engine, batch, stream.name, stream.get_many(wanted), skip)
            for index, skipped in enumerate(skip):
                if skipped:
                    self._answer(batch[index])
        except CorruptRecord as error:
            stream.damaged(error)
            for index in range(len(batch)):
                self._status(batch[index], f"500 {stream.offline}")
        bus.flush_soon()

    def _answer(self, message: Message) -> None:
        """One request that is not of the common forms. Errors: CorruptRecord."""
        if not message.reply:
            return
        stream = self._stream
        if message.headers and level_refused(header(message.headers, b"Nats-Required-Api-Level")):
            self._status(message, "412 Required Api Level")
            return
        subject = message.subject[len(self._prefix) + 1 :]
        try:
            request = MsgGetRequest(last_by_subj=subject) if subject else direct_request(message.payload)
        except ValueError as error:
            self._status(message, str(error))
            return
        if direct_batch(request):
            self._status(message, "408 Bad Request - batches are not supported yet by streamd")
            return
        value = find(stream, request)
        if value is None:
            self._status(message, "404 Message Not Found")
        else:
            self._reply(message, value)

    def _reply(self, message: Message, value: bytes) -> None:
        bus, stream = self._stream.services.bus, self._stream
        bus.publish(message.reply, record_decode(value).payload, headers=stored_headers(stream.name, value))

    def _status(self, message: Message, status: str) -> None:
        if message.reply:
            headers = f"NATS/1.0 {status}\r\n\r\n".encode()
            self._stream.services.bus.publish(message.reply, b"", headers=headers)


def find(stream: Stream, request: MsgGetRequest) -> bytes | None:
    """The record that a checked get request asks for. Errors: CorruptRecord."""
    if request.last_by_subj:
        return stream.last_match(request.last_by_subj)
    start = request.seq
    if request.start_time:
        start = stream.first_since(time_parse(request.start_time)[0])
    if request.next_by_subj:
        return stream.next_match(max(start, 1), [request.next_by_subj])
    if request.start_time:
        return stream.next_match(start, [])
    return stream.get(start)


def header(block: bytes, name: bytes) -> str | None:
    """The value of the first header of that name."""
    for line in block.split(b"\r\n")[1:]:
        key, colon, value = line.partition(b":")
        if colon and key == name:
            return value.strip().decode("utf-8", "replace")
    return None


def stored_headers(stream: str, value: bytes) -> bytes:
    """The header block of an answer: the message's own lines, then where it is stored."""
    record = record_decode(value)
    own = record.headers.removesuffix(b"\r\n\r\n") if record.headers else b"NATS/1.0"
    lines = (
        f"\r\nNats-Stream: {stream}\r\nNats-Subject: {record.subject}\r\nNats-Sequence: {record.sequence}"
        f"\r\nNats-Time-Stamp: {time_text(record.timestamp_ns)}\r\n\r\n"
    )
    return own + lines.encode("utf-8", "surrogateescape")
