"""One row per API subject: what it looks like, what it takes, what it answers, who serves it.

Purpose:    the service binds `$JS.API.>` once and asks `find(subject)`; a subject without a row gets no
            answer at all.
Shapes:     patterns stand behind `$JS.API.`; `*` tokens and a `>` tail are returned as arguments, in order.
Body:       `json` is always read; `filled` too, but an empty one is refused (10003); `peek` only if it starts
            with `{` or `[`, else ignored; `none` must be empty or `{}` (10038); `raw` belongs to the handler.
Source:     interop of nats-server 2.15.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamd.api import account, cluster, consumer, messages, stream
from streamd.api.answer import Answer
from streamd.api.errors import BAD_REQUEST, CLUSTER_REQUIRED, NOT_EMPTY_REQUEST, NOT_SUPPORTED, ApiError
from streamd.api.wire import Wire, decode

PREFIX = "$JS.API."


@dataclass(frozen=True)
class Endpoint:
    """A row. `handler` is a name in `streamd.streams`; `refusal` is the error where that isn't there."""

    pattern: str
    request: type[Wire] | None
    answer: type[Answer] | None
    handler: str
    body: Literal["json", "filled", "peek", "none", "raw"] = "json"
    refusal: ApiError | None = None

    def read(self, body: bytes, *, strict: bool = True) -> Wire | None:
        """The request model of a body. Errors: ApiError 10025, 10038, 10003."""
        if self.body == "none":
            if body not in (b"", b"{}"):
                raise NOT_EMPTY_REQUEST()
            return None
        if self.body == "filled" and body in (b"", b"{}"):
            raise BAD_REQUEST()
        if self.request is None or self.body == "raw":
            return None
        if self.body == "peek" and not body.lstrip(b" \t\r\n").startswith((b"{", b"[")):
            return self.request()
        return decode(self.request, body, strict=strict)


def answer(name: str, **on_error: object) -> type[Answer]:
    """An answer of a subject that is only refused."""
    return type(name, (Answer,), {"kind": name, "on_error": on_error, "__module__": __name__})


def clustered(pattern: str, request: type[Wire] | None, answer: type[Answer], handler: str) -> Endpoint:
    """A subject that needs a cluster."""
    body: Literal["peek", "filled"] = "filled" if request is cluster.PeerRequest else "peek"
    return Endpoint(pattern, request, answer, handler, body, CLUSTER_REQUIRED())


def later(pattern: str, name: str, **on_error: object) -> Endpoint:
    """A subject that will be served in a later release."""
    what = ".".join(token for token in pattern.split(".") if token not in "*>")
    return Endpoint(pattern, None, answer(name, **on_error), "", "raw", NOT_SUPPORTED(what=what))


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("INFO", None, account.AccountInfoResponse, "account_info", "raw"),
    Endpoint("STREAM.CREATE.*", stream.StreamConfigRequest, stream.StreamCreateResponse, "stream_create"),
    Endpoint("STREAM.UPDATE.*", stream.StreamConfigRequest, stream.StreamUpdateResponse, "stream_update"),
    Endpoint("STREAM.NAMES", stream.StreamNamesRequest, stream.StreamNamesResponse, "stream_names", "peek"),
    Endpoint("STREAM.LIST", stream.StreamListRequest, stream.StreamListResponse, "stream_list", "peek"),
    Endpoint("STREAM.INFO.*", stream.StreamInfoRequest, stream.StreamInfoResponse, "stream_info", "peek"),
    Endpoint("STREAM.DELETE.*", None, stream.StreamDeleteResponse, "stream_delete", "none"),
    Endpoint("STREAM.PURGE.*", messages.PurgeRequest, messages.PurgeResponse, "stream_purge", "peek"),
    Endpoint("STREAM.MSG.GET.*", messages.MsgGetRequest, messages.MsgGetResponse, "msg_get", "filled"),
    Endpoint("STREAM.MSG.DELETE.*", messages.MsgDeleteRequest, messages.MsgDeleteResponse, "msg_delete", "filled"),
    Endpoint("DIRECT.GET.*", messages.MsgGetRequest, None, "direct_get", "raw"),
    Endpoint("DIRECT.GET.*.>", None, None, "direct_get_last", "raw"),
    Endpoint(
        "CONSUMER.CREATE.*",
        consumer.ConsumerCreateRequest,
        consumer.ConsumerCreateResponse,
        "consumer_create",
    ),
    Endpoint(
        "CONSUMER.CREATE.*.*",
        consumer.ConsumerCreateRequest,
        consumer.ConsumerCreateResponse,
        "consumer_create",
    ),
    Endpoint(
        "CONSUMER.CREATE.*.*.>",
        consumer.ConsumerCreateRequest,
        consumer.ConsumerCreateResponse,
        "consumer_create",
    ),
    Endpoint(
        "CONSUMER.DURABLE.CREATE.*.*",
        consumer.ConsumerCreateRequest,
        consumer.ConsumerCreateResponse,
        "consumer_durable_create",
    ),
    Endpoint(
        "CONSUMER.NAMES.*",
        consumer.ConsumersRequest,
        consumer.ConsumerNamesResponse,
        "consumer_names",
        "peek",
    ),
    Endpoint("CONSUMER.LIST.*", consumer.ConsumersRequest, consumer.ConsumerListResponse, "consumer_list", "peek"),
    Endpoint("CONSUMER.INFO.*.*", None, consumer.ConsumerInfoResponse, "consumer_info", "none"),
    Endpoint("CONSUMER.DELETE.*.*", None, consumer.ConsumerDeleteResponse, "consumer_delete", "none"),
    Endpoint("CONSUMER.MSG.NEXT.*.*", consumer.NextRequest, None, "consumer_next", "raw"),
    clustered(
        "STREAM.LEADER.STEPDOWN.*",
        cluster.LeaderStepdownRequest,
        cluster.StreamLeaderStepdownResponse,
        "stream_stepdown",
    ),
    clustered(
        "CONSUMER.LEADER.STEPDOWN.*.*",
        cluster.LeaderStepdownRequest,
        cluster.ConsumerLeaderStepdownResponse,
        "consumer_stepdown",
    ),
    clustered("STREAM.PEER.REMOVE.*", cluster.PeerRequest, cluster.StreamRemovePeerResponse, "stream_peer_remove"),
    clustered(
        "STREAM.PEER.EVACUATE.*", cluster.PeerRequest, cluster.StreamEvacuatePeerResponse, "stream_peer_evacuate"
    ),
    clustered("STREAM.CANCEL_MOVE.*", None, cluster.StreamCancelMoveResponse, "stream_cancel_move"),
    clustered(
        "CONSUMER.PEER.REMOVE.*.*", cluster.PeerRequest, cluster.ConsumerRemovePeerResponse, "consumer_peer_remove"
    ),
    clustered(
        "CONSUMER.PEER.EVACUATE.*.*",
        cluster.PeerRequest,
        cluster.ConsumerEvacuatePeerResponse,
        "consumer_peer_evacuate",
    ),
    later("STREAM.SNAPSHOT.*", "stream_snapshot_response"),
    later("STREAM.RESTORE.*", "stream_restore_response", deliver_subject=""),
    later("CONSUMER.PAUSE.*.*", "consumer_pause_response", paused=False, pause_until="0001-01-01T00:00:00Z"),
    later("CONSUMER.UNPIN.*.*", "consumer_unpin_response"),
    later("CONSUMER.RESET.*.*", "consumer_reset_response"),
)

#: The rows of the system account. One without a handler and a refusal is left without an answer, as by nats-server alone.
SYSTEM_ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "META.LEADER.STEPDOWN",
        cluster.LeaderStepdownRequest,
        cluster.MetaLeaderStepdownResponse,
        "meta_stepdown",
        "peek",
    ),
    Endpoint("SERVER.REMOVE", cluster.ServerRequest, cluster.MetaServerRemoveResponse, "server_remove", "filled"),
    Endpoint("ACCOUNT.STREAM.MOVE.*.*", cluster.StreamMoveRequest, stream.StreamUpdateResponse, "account_stream_move"),
    Endpoint(
        "ACCOUNT.STREAM.CANCEL_MOVE.*.*", None, cluster.StreamCancelMoveResponse, "account_stream_cancel_move", "raw"
    ),
    later("ACCOUNT.PURGE.*", "account_purge_response"),
)


class Table:
    """Rows to be found by subject."""

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        rows = [(tuple(endpoint.pattern.split(".")), endpoint) for endpoint in endpoints]
        self._by_length: dict[int, list[tuple[tuple[str, ...], Endpoint]]] = {}
        for tokens, row in rows:
            self._by_length.setdefault(len(tokens), []).append((tokens, row))
        self._open = [(tokens, row) for tokens, row in rows if tokens[-1] == ">"]

    def find(self, subject: str) -> tuple[Endpoint, list[str]] | None:
        """The row of a whole subject (`$JS.API.…`) and its arguments, the tail of `>` as one.

        Returns None if there is no such row.
        """
        given = subject.removeprefix(PREFIX).split(".")
        for pattern, endpoint in (*self._by_length.get(len(given), ()), *self._open):
            fixed = len(pattern) - (pattern[-1] == ">")
            if len(given) <= fixed and pattern[-1] == ">":
                continue
            if all(one in ("*", token) for one, token in zip(pattern[:fixed], given, strict=False)):
                arguments = [token for one, token in zip(pattern[:fixed], given, strict=False) if one == "*"]
                if pattern[-1] == ">":
                    arguments.append(".".join(given[fixed:]))
                return endpoint, arguments
        return None


find = Table(ENDPOINTS).find
find_system = Table(SYSTEM_ENDPOINTS).find
