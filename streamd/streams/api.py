"""Requests on $JS.API: find the row, read the body, call the handler, answer.

Handlers are methods named as the rows of `streamd.api.subjects` name them, one class a noun. Source: nats-server 2.15.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from streamd._engine import CorruptRecord
from streamd.api import subjects
from streamd.api.account import AccountInfoResponse, AccountLimits, ApiStats, SystemResponse
from streamd.api.errors import (
    API_LEVEL_REQUIRED,
    NOT_AVAILABLE,
    NOT_ENABLED_FOR_ACCOUNT,
    STREAM_NOT_FOUND,
    ApiError,
)
from streamd.api.metadata import level_refused
from streamd.config.models import SYSTEM_ACCOUNT
from streamd.core.access import DEFAULT_ACCOUNT
from streamd.streams.consumer_api import ConsumerApi
from streamd.streams.message_api import MessageApi
from streamd.streams.records import header
from streamd.streams.replication.reads import wanted
from streamd.streams.stream_api import StreamApi

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd._engine import Batch, Message
    from streamd.api.answer import Answer
    from streamd.api.subjects import Endpoint
    from streamd.streams.jetstream import JetStream
    from streamd.streams.replication.api import ClusterApi
    from streamd.streams.replication.keeping import Kept
    from streamd.streams.replication.request import Request
    from streamd.streams.stream import Stream

#: Everything under $JS.API that an answer is owed for; pulls and direct gets are bound by whoever serves them.
API_SUBJECTS: Final = (
    "$JS.API.*",
    "$JS.API.STREAM.>",
    "$JS.API.META.>",
    "$JS.API.SERVER.>",
    "$JS.API.ACCOUNT.>",
    "$JS.API.CONSUMER.*",
    *(
        f"$JS.API.CONSUMER.{verb}.>"
        for verb in (
            "CREATE",
            "DURABLE",
            "NAMES",
            "LIST",
            "INFO",
            "DELETE",
            "LEADER",
            "PEER",
            "PAUSE",
            "UNPIN",
            "RESET",
        )
    ),
)

#: What the system account may ask about the cluster, its servers, and all accounts.
SYSTEM_SUBJECTS: Final = ("$JS.API.META.>", "$JS.API.SERVER.>", "$JS.API.ACCOUNT.>")
#: What it may not, as it has no streams. One server of a cluster says so, by a queue group.
SYSTEM_REFUSED: Final = ("$JS.API.*", "$JS.API.STREAM.>", "$JS.API.CONSUMER.>", "$JS.API.DIRECT.>")
SYSTEM_QUEUE: Final = "_sys_"


class Call:
    """One request and the way back to who asked."""

    __slots__ = (
        "_api",
        "account",
        "arguments",
        "confirmed",
        "endpoint",
        "held",
        "kept",
        "known",
        "message",
        "since_ns",
    )

    def __init__(
        self,
        api: Api,
        endpoint: Endpoint,
        arguments: list[str],
        message: Message | Request,
        account: str = DEFAULT_ACCOUNT,
    ) -> None:
        self._api = api
        self.account = account
        self.endpoint = endpoint
        self.arguments = arguments
        self.message = message
        self.known = False  # it has been looked at before, here or at another server
        self.confirmed = False  # a quorum has said since it came that this server leads the meta group
        #: How it came to wait for somebody who serves it; None: it hasn't.
        self.kept: Kept | None = None
        self.held = False  # this server is to see that it is answered: others may have left it to the leader
        #: Since when it waits for its stream to be served, by the clock that never jumps; 0: it doesn't.
        self.since_ns = 0

    def answer(self, answer: Answer) -> None:
        """Send the answer; it may come later than the handler's end."""
        self._send(answer.encode())

    def fail(self, error: ApiError) -> None:
        """Send an error of this request's type."""
        self._api.errors += 1
        if self.endpoint.answer is not None:
            self._send(self.endpoint.answer.failure(error))

    def ask_again(self, error: ApiError) -> None:
        """This server leads no more, and can't say what has become of the request: in a cluster who leads next does it, perhaps
        once more."""
        cluster = self._api.cluster
        if cluster is None:
            self.fail(error)
        else:
            cluster.ask_again(self)

    def stream(self) -> Stream:
        """The stream named in the subject. Errors: ApiError 10059, 10118."""
        stream = self._api.jetstream.streams.get(self.arguments[0])
        if stream is None:
            raise STREAM_NOT_FOUND()
        return stream

    def stream_online(self) -> Stream:
        """The same, and it must be served. Errors: ApiError 10059, 10118."""
        stream = self.stream()
        if stream.offline is not None:
            raise ApiError(500, 10118, stream.offline)
        return stream

    def _send(self, payload: bytes) -> None:
        if self.message.reply:
            self._api.jetstream.services.bus.publish(self.message.reply, payload, account=self.account)


class Api:
    """The JetStream API of one server."""

    def __init__(self, jetstream: JetStream) -> None:
        self.jetstream = jetstream
        self.cluster: ClusterApi | None = None
        self.total = 0
        self.errors = 0
        self._handlers: dict[str, Callable[[Call, Any], None]] = {"account_info": self.account_info}
        self.streams = StreamApi(jetstream)
        self.consumers = ConsumerApi(jetstream)
        for part in (self.streams, self.consumers, MessageApi(jetstream)):
            self._take(part)

    def join(self, cluster: ClusterApi) -> ClusterApi:
        """This server is one of a cluster. Returns its part of the API."""
        self.cluster = cluster
        self._take(cluster)
        return cluster

    def _take(self, part: object) -> None:
        for endpoint in (*subjects.ENDPOINTS, *subjects.SYSTEM_ENDPOINTS):
            method = getattr(part, endpoint.handler, None) if endpoint.handler else None
            if method is not None:
                self._handlers[endpoint.handler] = method

    def bind(self) -> None:
        """Serve."""
        bus = self.jetstream.services.bus
        bus.bind(API_SUBJECTS, self.receive)
        bus.bind(SYSTEM_SUBJECTS, self.receive_system, account=SYSTEM_ACCOUNT)
        bus.bind(SYSTEM_REFUSED, self.refuse_system, account=SYSTEM_ACCOUNT, queue=SYSTEM_QUEUE)

    def receive(self, batch: Batch) -> None:
        """Requests have arrived."""
        for index in range(len(batch)):
            message = batch[index]
            found = subjects.find(message.subject)
            if found is not None:
                self.serve(Call(self, *found, message))

    def serve_handed(self, request: Request) -> None:
        """Another server, which others left a request to, hands it to this one."""
        system = request.account == SYSTEM_ACCOUNT
        found = subjects.find_system(request.subject) if system else subjects.find(request.subject)
        if found is not None:
            call = Call(self, *found, request, request.account)
            call.held = call.known = True
            self.serve(call)

    def receive_system(self, batch: Batch) -> None:
        """Requests of the system account that are about all accounts. Alone, a server is silent about the cluster's."""
        for index in range(len(batch)):
            message = batch[index]
            found = subjects.find_system(message.subject)
            if found is not None and (found[0].handler in self._handlers or found[0].refusal is not None):
                self.serve(Call(self, *found, message, SYSTEM_ACCOUNT))

    def refuse_system(self, batch: Batch) -> None:
        """Requests about streams of the system account, which has none."""
        for index in range(len(batch)):
            message = batch[index]
            kind = AccountInfoResponse if message.subject == f"{subjects.PREFIX}INFO" else SystemResponse
            endpoint = subjects.Endpoint("", None, kind, "")
            Call(self, endpoint, [], message, SYSTEM_ACCOUNT).fail(NOT_ENABLED_FOR_ACCOUNT())

    def serve(self, call: Call) -> None:
        """Find the handler and call it, unless that is for another server to do."""
        endpoint, message = call.endpoint, call.message

        def serve() -> None:
            if self.cluster is not None and not self.cluster.serves(call):
                return
            self.total += 1
            if message.headers and level_refused(header(message.headers, b"Nats-Required-Api-Level")):
                raise API_LEVEL_REQUIRED()
            handler = self._handlers.get(endpoint.handler)
            if handler is None and endpoint.refusal is not None:
                raise endpoint.refusal
            if handler is not None:
                self._handle(call, handler)

        self._guard(call, serve)

    def _guard(self, call: Call, serve: Callable[[], None]) -> None:
        """Run a handler; what it raises is the answer."""
        try:
            serve()
        except ApiError as error:
            call.fail(error)
        except CorruptRecord as error:
            stream = self.jetstream.streams.get(call.arguments[0]) if call.arguments else None
            if stream is not None:
                stream.damaged(error)
            call.fail(ApiError(500, 10118, (stream.offline if stream else None) or str(error)))
        except Exception as error:
            # The client waits for an answer; what is wrong with us is for the log.
            call.fail(NOT_AVAILABLE())
            self.jetstream.services.log.error("API request %s failed: %r", call.message.subject, error)
            raise

    def _handle(self, call: Call, handler: Callable[[Call, Any], None]) -> None:
        request = call.endpoint.read(call.message.payload, strict=self.jetstream.strict)
        stream = self.jetstream.streams.get(call.arguments[0]) if call.arguments else None
        reads = self.jetstream.reads
        if reads is None or stream is None or stream.replica is None or not wanted(call.message.headers):
            handler(call, request)
            return

        def confirmed(leading: bool) -> None:
            if leading:
                self._guard(call, lambda: handler(call, request))
            else:
                call.fail(NOT_AVAILABLE())

        reads.confirm(stream, confirmed)

    def account_info(self, call: Call, _request: None) -> None:
        """INFO."""
        jetstream = self.jetstream
        memory, stored, consumers = jetstream.usage()
        reserved = {True: 0, False: 0}
        for stream in jetstream.streams.values():
            reserved[stream.in_memory] += max(stream.config.max_bytes, 0)
        call.answer(
            AccountInfoResponse(
                memory=memory,
                storage=stored,
                reserved_memory=reserved[True],
                reserved_storage=reserved[False],
                streams=len(jetstream.streams),
                consumers=consumers,
                limits=AccountLimits(),
                api=ApiStats(total=self.total, errors=self.errors),
            )
        )
