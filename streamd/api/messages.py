"""Stored messages on the wire: get, delete, purge, direct get.

Source: nats-server 2.15.2.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from streamd.api.answer import Answer, Done
from streamd.api.errors import BAD_REQUEST, ApiError
from streamd.api.wire import ALWAYS, Flag, Int, Text, Texts, Time, TimeNs, Uint64, Wire, decode_plain


class MsgGetRequest(Wire):
    """STREAM.MSG.GET and DIRECT.GET: which message. See `get_check` and `direct_request`."""

    go_name: ClassVar[str] = "JSApiMsgGetRequest"

    seq: Uint64 = 0
    last_by_subj: Text = ""
    next_by_subj: Text = ""
    batch: Int = 0
    max_bytes: Int = 0
    start_time: Time = ""
    multi_last: Texts = Field(default_factory=list)
    up_to_seq: Uint64 = 0
    up_to_time: Time = ""
    no_hdr: Flag = False


def get_check(request: MsgGetRequest) -> ApiError | None:
    """What STREAM.MSG.GET refuses: nothing asked for, two ways at once, batches (10003)."""
    batch = request.batch or request.max_bytes or request.multi_last or request.up_to_seq or request.up_to_time
    nothing = not (request.seq or request.last_by_subj or request.next_by_subj or request.start_time)
    conflict = (
        (request.seq and request.last_by_subj)
        or (request.last_by_subj and request.next_by_subj)
        or (request.start_time and (request.seq or request.last_by_subj))
    )
    return BAD_REQUEST() if batch or nothing or conflict else None


def direct_request(body: bytes) -> MsgGetRequest:
    """Read a DIRECT.GET. Errors: ValueError with the status line's text."""
    if not body:
        raise ValueError("408 Empty Request")
    try:
        request = decode_plain(MsgGetRequest, body, strict=False)
    except ValueError:
        raise ValueError("408 Malformed Request") from None
    several = request.multi_last
    if not (request.seq or request.last_by_subj or request.next_by_subj or request.start_time or several):
        raise ValueError("408 Empty Request")
    if (
        (request.seq and request.last_by_subj)
        or (request.last_by_subj and (request.next_by_subj or request.batch or request.start_time or several))
        or (request.start_time and request.seq)
        or (several and request.next_by_subj)
        or (request.up_to_seq and request.up_to_time)
    ):
        raise ValueError("408 Bad Request")
    return request


def direct_batch(request: MsgGetRequest) -> bool:
    """Whether a DIRECT.GET asks for several messages."""
    return bool(request.batch or request.multi_last)


class StoredMsg(Wire):
    """One message. `hdrs` and `data` are base64 texts; `time` is nanoseconds here."""

    subject: Annotated[str, ALWAYS] = ""
    seq: Annotated[int, ALWAYS] = 0
    hdrs: str = ""
    data: str = ""
    time: Annotated[TimeNs, ALWAYS] = 0


class MsgGetResponse(Answer):
    """STREAM.MSG.GET."""

    kind: ClassVar[str] = "stream_msg_get_response"

    message: StoredMsg


class MsgDeleteRequest(Wire):
    """STREAM.MSG.DELETE. An empty body is 10003."""

    go_name: ClassVar[str] = "JSApiMsgDeleteRequest"

    seq: Uint64 = 0
    no_erase: Flag = False


class MsgDeleteResponse(Done):
    """STREAM.MSG.DELETE."""

    kind: ClassVar[str] = "stream_msg_delete_response"


class PurgeRequest(Wire):
    """STREAM.PURGE. Shapes: `seq` removes below it; `keep` leaves the last ones; both are 10003."""

    go_name: ClassVar[str] = "JSApiStreamPurgeRequest"

    filter: Text = ""
    seq: Uint64 = 0
    keep: Uint64 = 0


def purge_check(request: PurgeRequest) -> ApiError | None:
    """What STREAM.PURGE refuses."""
    return BAD_REQUEST() if request.seq and request.keep else None


class PurgeResponse(Done):
    """STREAM.PURGE."""

    kind: ClassVar[str] = "stream_purge_response"
    on_error: ClassVar[dict[str, Any]] = {"purged": 0}

    purged: Annotated[int, ALWAYS] = 0
