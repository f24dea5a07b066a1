"""Handlers of single messages: get, delete, and purge. Source: nats-server 2.15.2."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from streamd._engine import record_decode, record_key
from streamd.api import messages
from streamd.api.errors import (
    BAD_REQUEST,
    MESSAGE_DELETE,
    MESSAGE_NOT_FOUND,
    SEQUENCE_NOT_FOUND,
    STREAM_PURGE,
    STREAM_SEALED,
    ApiError,
)
from streamd.errors import StoreError
from streamd.streams.direct import find

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.store import Outcome, Work
    from streamd.streams.api import Call
    from streamd.streams.jetstream import JetStream


class MessageApi:
    """STREAM.MSG.GET, STREAM.MSG.DELETE and STREAM.PURGE."""

    def __init__(self, jetstream: JetStream) -> None:
        self._jetstream = jetstream

    def msg_get(self, call: Call, request: messages.MsgGetRequest) -> None:
        """One message as JSON. Errors: ApiError."""
        stream = call.stream_online()
        error = messages.get_check(request)
        if error is not None:
            raise error
        value = find(stream, request)
        if value is None:
            raise MESSAGE_NOT_FOUND()
        record = record_decode(value)
        stored = messages.StoredMsg(
            subject=record.subject,
            seq=record.sequence,
            hdrs="" if request.no_hdr else base64.b64encode(record.headers).decode(),
            data=base64.b64encode(record.payload).decode(),
            time=record.timestamp_ns,
        )
        call.answer(messages.MsgGetResponse(message=stored))

    def msg_delete(self, call: Call, request: messages.MsgDeleteRequest) -> None:
        """Delete one message. It can't be overwritten in a copy-on-write store: `no_erase` makes no difference here."""
        stream = call.stream_online()
        if not call.message.payload:
            raise BAD_REQUEST()
        if stream.config.sealed:
            raise STREAM_SEALED()
        if stream.config.deny_delete:
            raise MESSAGE_DELETE(err="message delete not permitted")
        sequence = request.seq

        def job(work: Work) -> Callable[[Outcome], None] | None:
            if stream.closed:
                call.fail(MESSAGE_NOT_FOUND())
                return None
            if not sequence:
                call.fail(MESSAGE_DELETE(err="no message found"))
                return None
            if sequence > stream.state.last_seq and not stream.in_memory:
                call.fail(MESSAGE_DELETE(err="stream store EOF"))
                return None
            if sequence < stream.state.first_seq and not stream.in_memory:
                call.fail(MESSAGE_DELETE(err="no message found"))
                return None
            value = stream.get(sequence)
            if value is None:
                call.fail(SEQUENCE_NOT_FOUND(seq=sequence))
                return None
            stream.state.remove([value])
            stream.log.delete(work, [record_key(sequence)])
            stream.services.commits.touch(stream)
            return after

        def after(outcome: Outcome) -> None:
            if outcome.error is not None and stream.stream_id:
                stream.put_back()
                call.fail(MESSAGE_DELETE(err=str(outcome.error)))
                return
            stream.deleted([sequence])
            call.answer(messages.MsgDeleteResponse())

        stream.services.commits.at_rest(job)

    def stream_purge(self, call: Call, request: messages.PurgeRequest) -> None:
        """Remove many messages."""
        stream = call.stream_online()
        error = messages.purge_check(request)
        if error is not None:
            raise error
        if stream.config.sealed:
            raise STREAM_SEALED()
        if stream.config.deny_purge:
            raise STREAM_PURGE(err="stream purge not permitted")

        def done(purged: int, failure: Exception | None) -> None:
            if isinstance(failure, StoreError):
                call.fail(STREAM_PURGE(err=str(failure)))
            elif failure is not None:
                call.fail(ApiError(500, 10118, stream.offline or str(failure)))
            else:
                for consumer in stream.consumers.values():
                    consumer.purged(pattern)
                call.answer(messages.PurgeResponse(purged=purged))

        retention = stream.retention
        everything = not request.filter or request.filter == ">"
        pattern = None if everything else request.filter
        stream.services.commits.at_rest(retention.purge_job(pattern, request.seq, done, keep=request.keep))
