"""Consumers on the wire: configuration, state, and the requests and answers of $JS.API.CONSUMER.

Source: nats-server 2.15.2; field order and emission as recorded in tests/api/golden.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from streamd.api.answer import PAGING, Answer, Done, Paged
from streamd.api.cluster import ClusterInfo
from streamd.api.stream import BAD_ENUM, Metadata, PagedRequest
from streamd.api.wire import (
    ALWAYS,
    DurationNs,
    Flag,
    Go,
    Int,
    Text,
    Texts,
    Time,
    TimeNs,
    Uint64,
    Wire,
    decode_plain,
)

DELIVER_POLICIES = Literal["all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject"]


class ConsumerConfig(Wire):
    """The configuration of a consumer. Zero values are a request's: `state.consumer` settles them."""

    go_name: ClassVar[str] = "ConsumerConfig"

    durable_name: Text = ""
    name: Text = ""
    description: Text = ""
    deliver_policy: Annotated[DELIVER_POLICIES, ALWAYS, Go("server", BAD_ENUM)] = "all"
    opt_start_seq: Uint64 = 0
    opt_start_time: Time = ""
    ack_policy: Annotated[Literal["none", "all", "explicit", "flow_control"], ALWAYS, Go("server", BAD_ENUM)] = "none"
    ack_wait: DurationNs = 0
    max_deliver: Int = 0
    backoff: list[DurationNs] = Field(default_factory=list)
    filter_subject: Text = ""
    filter_subjects: Texts = Field(default_factory=list)
    replay_policy: Annotated[Literal["instant", "original"], ALWAYS, Go("server", BAD_ENUM)] = "instant"
    rate_limit_bps: Uint64 = 0
    sample_freq: Text = ""
    max_waiting: Int = 0
    max_ack_pending: Int = 0
    flow_control: Flag = False
    headers_only: Flag = False
    max_batch: Int = 0
    max_expires: DurationNs = 0
    max_bytes: Int = 0
    deliver_subject: Text = ""
    deliver_group: Text = ""
    idle_heartbeat: DurationNs = 0
    inactive_threshold: DurationNs = 0
    num_replicas: Annotated[Int, ALWAYS] = 0
    mem_storage: Flag = False
    direct: Flag = False
    sourcing: Flag = False
    metadata: Metadata = Field(default_factory=dict)
    pause_until: Time = ""
    priority_groups: Texts = Field(default_factory=list)
    priority_policy: Annotated[
        Literal["none", "overflow", "pinned_client", "prioritized"],
        Go("server", "unknown priority policy: {raw}"),
    ] = "none"
    priority_timeout: DurationNs = 0

    def wire(self) -> dict[str, Any]:
        """`none` is the priority policy's zero value."""
        out = super().wire()
        if self.priority_policy == "none":
            del out["priority_policy"]
        return out


class ConsumerCreateRequest(Wire):
    """CONSUMER.CREATE in its three forms and CONSUMER.DURABLE.CREATE."""

    go_name: ClassVar[str] = "CreateConsumerRequest"

    stream_name: Text = ""
    config: ConsumerConfig = Field(default_factory=ConsumerConfig)
    action: Annotated[Literal["", "create", "update"], Go("server", "unknown consumer action: {raw}")] = ""
    pedantic: Flag = False


class SequenceInfo(Wire):
    """A place in both countings; `last_active` is nanoseconds here, 0 for never."""

    consumer_seq: Annotated[int, ALWAYS] = 0
    stream_seq: Annotated[int, ALWAYS] = 0
    last_active: TimeNs = 0


class ConsumerInfo(Wire):
    """Configuration and state of a consumer. `created` and `ts` are nanoseconds here."""

    stream_name: Annotated[str, ALWAYS]
    name: Annotated[str, ALWAYS]
    created: Annotated[TimeNs, ALWAYS]
    config: ConsumerConfig | None = None
    delivered: Annotated[SequenceInfo, ALWAYS] = Field(default_factory=SequenceInfo)
    ack_floor: Annotated[SequenceInfo, ALWAYS] = Field(default_factory=SequenceInfo)
    num_ack_pending: Annotated[int, ALWAYS] = 0
    num_redelivered: Annotated[int, ALWAYS] = 0
    num_waiting: Annotated[int, ALWAYS] = 0
    num_pending: Annotated[int, ALWAYS] = 0
    cluster: ClusterInfo | None = None
    push_bound: bool = False
    paused: bool = False
    pause_remaining: int = 0
    ts: Annotated[TimeNs, ALWAYS]


class ConsumerCreateResponse(Answer, ConsumerInfo):
    """CONSUMER.CREATE and CONSUMER.DURABLE.CREATE."""

    kind: ClassVar[str] = "consumer_create_response"

    @classmethod
    def of(cls, info: ConsumerInfo) -> ConsumerCreateResponse:
        """The answer that shows `info`."""
        return cls.model_construct(**info.__dict__)


class ConsumerInfoResponse(Answer, ConsumerInfo):
    """CONSUMER.INFO."""

    kind: ClassVar[str] = "consumer_info_response"

    @classmethod
    def of(cls, info: ConsumerInfo) -> ConsumerInfoResponse:
        """The answer that shows `info`."""
        return cls.model_construct(**info.__dict__)


class ConsumersRequest(PagedRequest):
    """CONSUMER.NAMES and CONSUMER.LIST."""

    go_name: ClassVar[str] = "JSApiConsumersRequest"


class ConsumerNamesResponse(Paged):
    """CONSUMER.NAMES."""

    kind: ClassVar[str] = "consumer_names_response"
    on_error: ClassVar[dict[str, Any]] = {**PAGING, "consumers": []}

    consumers: Annotated[list[str], ALWAYS] = Field(default_factory=list)


class ConsumerListResponse(Paged):
    """CONSUMER.LIST."""

    kind: ClassVar[str] = "consumer_list_response"
    on_error: ClassVar[dict[str, Any]] = {**PAGING, "consumers": []}

    consumers: Annotated[list[ConsumerInfo], ALWAYS] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)
    offline: dict[str, str] = Field(default_factory=dict)


class ConsumerDeleteResponse(Done):
    """CONSUMER.DELETE."""

    kind: ClassVar[str] = "consumer_delete_response"


class NextRequest(Wire):
    """CONSUMER.MSG.NEXT: how many messages, and how long to wait."""

    go_name: ClassVar[str] = "JSApiConsumerGetNextRequest"

    expires: DurationNs = 0
    batch: Int = 0
    max_bytes: Int = 0
    no_wait: Flag = False
    idle_heartbeat: DurationNs = 0
    min_pending: Int = 0
    min_ack_pending: Int = 0
    id: Text = ""
    group: Text = ""
    priority: Int = 0


def next_request(body: bytes) -> NextRequest:
    """Read a pull request: nothing or plain text is one message, a number that many, else JSON.

    Errors: ValueError with the text that follows `400 Bad Request - `.
    """
    text = body.strip()
    if text.startswith(b"{"):
        request = decode_plain(NextRequest, body, strict=False)
    else:
        batch = int(text) if text.isdigit() and len(text) < 19 else 1
        request = NextRequest.model_construct(batch=batch)
    if request.idle_heartbeat and request.expires and 2 * request.idle_heartbeat > request.expires:
        raise ValueError("heartbeat value too large")
    request.batch = max(request.batch, 1)
    return request


CONSUMER_NAMES_LIMIT = 1024
CONSUMER_LIST_LIMIT = 256
