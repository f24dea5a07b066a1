"""Direct gets: reads of single messages, a batch of requests at a time, resolved and answered natively.

Source: nats-server 2.15.2. Many messages at once are answered in `direct_batch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd._engine import CorruptRecord, record_decode, reply_direct
from streamd.api.messages import MsgGetRequest, direct_batch, direct_request
from streamd.api.metadata import level_refused
from streamd.api.wire import time_parse
from streamd.streams.direct_batch import DirectBatch
from streamd.streams.records import header, stored_headers
from streamd.streams.replication.reads import wanted
from streamd.streams.replication.request import Request

if TYPE_CHECKING:
    from streamd._engine import Batch, Message
    from streamd.core.bus import Binding
    from streamd.streams.stream import Stream

QUEUE = "_sys_"
NO_LEADER = "503 No leader of the stream could be reached"
#: Most that one batch sends: half of what a client may leave unread before it is cut.
BATCH_BYTES_MAX = 32 << 20


class DirectGets:
    """The direct-get service of one stream, while its configuration allows it."""

    __slots__ = ("_binding", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._binding: Binding | None = None

    @property
    def _prefix(self) -> str:
        # Not kept: it is as long as a name, and there are many streams.
        return f"$JS.API.DIRECT.GET.{self._stream.name}"

    def reconfigure(self) -> None:
        """Serve or stop serving as the configuration says, and as what is here allows."""
        stream = self._stream
        whole = not stream.partial and (stream.offline is None or not stream.group)
        allowed = stream.config.allow_direct and not stream.closed and whole
        if allowed and self._binding is None:
            subjects = [self._prefix, self._prefix + ".>"]
            self._binding = self._stream.services.bus.bind(subjects, self._serve, queue=QUEUE)
        elif not allowed:
            self.close()

    def withdraw(self) -> None:
        """Nothing can be read here: others of its group have what is asked for, if it has one. Else who asks is told."""
        if self._stream.group:
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
        for index in batch.headed() if stream.replica is not None else ():
            skip[index] = skip[index] or wanted(batch[index].headers)
        try:
            shown = [sequence if not skipped else 0 for sequence, skipped in zip(sequences, skip, strict=True)]
            reply_direct(bus.engine, batch, stream.name, stream.get_many(shown), skip)
            for index, skipped in enumerate(skip):
                if skipped:
                    self._take(batch[index])
        except CorruptRecord as error:
            stream.damaged(error)
            for index in range(len(batch)):
                self._status(batch[index], f"500 {stream.offline}")
        bus.flush_soon()

    def _take(self, message: Message) -> None:
        """One request that takes Python. Errors: CorruptRecord."""
        reads = self._stream.services.reads()
        if reads is None or self._stream.replica is None or not wanted(message.headers):
            self._answer(message)
        elif self._stream.leads:
            self.answer_linearizable(Request(message.subject, message.reply, message.headers, message.payload))
        else:
            request = Request(message.subject, message.reply, message.headers, message.payload)
            reads.hand_over(self._stream, request, lambda: self._status(request, NO_LEADER))

    def answer_linearizable(self, request: Request) -> None:
        """Answer once this server has made sure that it leads."""
        reads = self._stream.services.reads()
        assert reads is not None

        def confirmed(leading: bool) -> None:
            if not leading:
                self._status(request, NO_LEADER)
                return
            try:
                self._answer(request)
            except CorruptRecord as error:
                self._stream.damaged(error)
                self._status(request, f"500 {self._stream.offline}")

        reads.confirm(self._stream, confirmed)

    def _answer(self, message: Message | Request) -> None:
        """One request that is not of the common forms. Errors: CorruptRecord."""
        if not message.reply:
            return
        stream = self._stream
        if message.headers and level_refused(header(message.headers, b"Nats-Required-Api-Level")):
            self._status(message, "412 Required Api Level")
            return
        subject = message.subject[len(self._prefix) + 1 :]
        try:
            if subject and message.payload:
                raise ValueError("408 Bad Request")
            request = MsgGetRequest(last_by_subj=subject) if subject else direct_request(message.payload)
        except ValueError as error:
            self._status(message, str(error))
            return
        if direct_batch(request):
            DirectBatch(stream, message.reply, request, BATCH_BYTES_MAX).step()
            return
        value = find(stream, request)
        if value is None:
            self._status(message, "404 Message Not Found")
        else:
            headers = b"" if request.no_hdr else stored_headers(stream.name, value)
            stream.services.bus.publish(message.reply, record_decode(value).payload, headers=headers)

    def _status(self, message: Message | Request, status: str) -> None:
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
