"""Handlers of single messages: get, delete, and purge. Source: nats-server 2.15.2."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from streamd._engine import record_decode
from streamd.api import messages
from streamd.api.errors import (
    BAD_REQUEST,
    MESSAGE_DELETE,
    MESSAGE_NOT_FOUND,
    STREAM_PURGE,
    STREAM_SEALED,
    ApiError,
)
from streamd.errors import StoreError
from streamd.streams.direct import find

if TYPE_CHECKING:
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

        def done(error: ApiError | None) -> None:
            if error is not None:
                call.fail(error)
            else:
                call.answer(messages.MsgDeleteResponse())

        stream.changes.delete(stream, request.seq, done)

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

        everything = not request.filter or request.filter == ">"
        pattern = None if everything else request.filter
        stream.changes.purge(stream, pattern, request.seq, request.keep, done)
