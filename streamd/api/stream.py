"""Streams on the wire: configuration, state, and the requests and answers of $JS.API.STREAM.

Source: nats-server 2.15.2; field order and emission as recorded in tests/api/golden.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from streamd.api.answer import PAGING, Answer, Done, Paged
from streamd.api.cluster import ClusterInfo, Placement
from streamd.api.wire import (
    ALWAYS,
    DurationNs,
    Flag,
    Go,
    Int,
    Int32,
    Int64,
    Text,
    Texts,
    Time,
    TimeNs,
    Uint64,
    Wire,
)

BAD_ENUM = "can not unmarshal {quoted}"
Metadata = Annotated[dict[str, Text], Go("map[string]string")]


class SubjectTransform(Wire):
    """A subject mapping."""

    go_name: ClassVar[str] = "SubjectTransformConfig"

    src: Annotated[Text, ALWAYS] = ""
    dest: Annotated[Text, ALWAYS] = ""


class External(Wire):
    """How another account's or domain's API is reached."""

    go_name: ClassVar[str] = "ExternalStream"

    api: Annotated[Text, ALWAYS] = ""
    deliver: Annotated[Text, ALWAYS] = ""


class SourceConsumer(Wire):
    """A consumer made beforehand for a source."""

    go_name: ClassVar[str] = "StreamConsumerSource"

    name: Text = ""
    deliver_subject: Text = ""


class StreamSource(Wire):
    """A mirror or a source."""

    go_name: ClassVar[str] = "StreamSource"

    name: Annotated[Text, ALWAYS] = ""
    opt_start_seq: Uint64 = 0
    opt_start_time: Time = ""
    filter_subject: Text = ""
    subject_transforms: list[SubjectTransform] = Field(default_factory=list)
    external: External | None = None
    consumer: SourceConsumer | None = None


class Republish(Wire):
    """Where stored messages are published again."""

    go_name: ClassVar[str] = "RePublish"

    src: Text = ""
    dest: Annotated[Text, ALWAYS] = ""
    headers_only: Flag = False


class ConsumerLimits(Wire):
    """Defaults and ceilings for the consumers of a stream."""

    go_name: ClassVar[str] = "StreamConsumerLimits"

    inactive_threshold: DurationNs = 0
    max_ack_pending: Int = 0


class StreamConfig(Wire):
    """The configuration of a stream. Zero values are a request's: `state.stream` settles them."""

    go_name: ClassVar[str] = "StreamConfig"

    name: Annotated[Text, ALWAYS] = ""
    description: Text = ""
    subjects: Texts = Field(default_factory=list)
    retention: Annotated[Literal["limits", "interest", "workqueue"], ALWAYS, Go("server", BAD_ENUM)] = "limits"
    max_consumers: Annotated[Int, ALWAYS] = 0
    max_msgs: Annotated[Int64, ALWAYS] = 0
    max_bytes: Annotated[Int64, ALWAYS] = 0
    max_age: Annotated[DurationNs, ALWAYS] = 0
    max_msgs_per_subject: Annotated[Int64, ALWAYS] = 0
    max_msg_size: Int32 = 0
    discard: Annotated[Literal["old", "new"], ALWAYS, Go("server", BAD_ENUM)] = "old"
    storage: Annotated[Literal["file", "memory"], ALWAYS, Go("server", BAD_ENUM)] = "file"
    num_replicas: Annotated[Int, ALWAYS] = 0
    no_ack: Flag = False
    duplicate_window: DurationNs = 0
    placement: Placement | None = None
    mirror: StreamSource | None = None
    sources: list[StreamSource] = Field(default_factory=list)
    compression: Annotated[Literal["none", "s2"], ALWAYS, Go("server", "unknown compression algorithm")] = "none"
    first_seq: Uint64 = 0
    subject_transform: SubjectTransform | None = None
    republish: Republish | None = None
    allow_direct: Annotated[Flag, ALWAYS] = False
    mirror_direct: Annotated[Flag, ALWAYS] = False
    discard_new_per_subject: Flag = False
    sealed: Annotated[Flag, ALWAYS] = False
    deny_delete: Annotated[Flag, ALWAYS] = False
    deny_purge: Annotated[Flag, ALWAYS] = False
    allow_rollup_hdrs: Annotated[Flag, ALWAYS] = False
    consumer_limits: Annotated[ConsumerLimits, ALWAYS] = Field(default_factory=ConsumerLimits)
    allow_msg_ttl: Annotated[Flag, ALWAYS] = False
    subject_delete_marker_ttl: DurationNs = 0
    allow_msg_counter: Flag = False
    allow_atomic: Flag = False
    allow_msg_schedules: Flag = False
    persist_mode: Annotated[Literal["", "default", "async"], Go("server", BAD_ENUM)] = ""
    allow_batched: Flag = False
    metadata: Metadata = Field(default_factory=dict)


class StreamConfigRequest(StreamConfig):
    """STREAM.CREATE and STREAM.UPDATE."""

    go_name: ClassVar[str] = "StreamConfigRequest"

    pedantic: Flag = False

    def config(self) -> StreamConfig:
        """Only the configuration."""
        return StreamConfig.model_construct(**{k: v for k, v in self.__dict__.items() if k != "pedantic"})


class LostData(Wire):
    """Messages the store could not keep."""

    msgs: Annotated[list[int] | None, ALWAYS] = None
    bytes: Annotated[int, ALWAYS] = 0


class StreamState(Wire):
    """What a stream holds. `first_ts` and `last_ts` are nanoseconds here."""

    messages: Annotated[int, ALWAYS] = 0
    bytes: Annotated[int, ALWAYS] = 0
    first_seq: Annotated[int, ALWAYS] = 0
    first_ts: Annotated[TimeNs, ALWAYS] = 0
    last_seq: Annotated[int, ALWAYS] = 0
    last_ts: Annotated[TimeNs, ALWAYS] = 0
    num_subjects: int = 0
    subjects: dict[str, int] = Field(default_factory=dict)
    num_deleted: int = 0
    deleted: list[int] = Field(default_factory=list)
    lost: LostData | None = None
    consumer_count: Annotated[int, ALWAYS] = 0


class StreamAlternate(Wire):
    """A stream or mirror that could serve reads."""

    name: Annotated[str, ALWAYS] = ""
    domain: str = ""
    cluster: Annotated[str, ALWAYS] = ""


class StreamInfo(Wire):
    """Configuration and state of a stream. `created` and `ts` are nanoseconds here."""

    config: Annotated[StreamConfig, ALWAYS]
    created: Annotated[TimeNs, ALWAYS]
    state: Annotated[StreamState, ALWAYS]
    domain: str = ""
    cluster: ClusterInfo | None = None
    alternates: list[StreamAlternate] = Field(default_factory=list)
    ts: Annotated[TimeNs, ALWAYS]


class StreamCreateResponse(Answer):
    """STREAM.CREATE; `info` without cluster where not clustered."""

    kind: ClassVar[str] = "stream_create_response"

    info: StreamInfo
    did_create: bool = True

    def wire(self) -> dict[str, Any]:
        """The info's fields stand in the answer itself."""
        out = super().wire()
        info = out.pop("info")
        did_create = {"did_create": True} if out.pop("did_create", False) else {}
        return {**out, **info, **did_create}


class StreamUpdateResponse(Answer):
    """STREAM.UPDATE."""

    kind: ClassVar[str] = "stream_update_response"

    info: StreamInfo

    def wire(self) -> dict[str, Any]:
        """The info's fields stand in the answer itself."""
        out = super().wire()
        info = out.pop("info")
        return {**out, **info}


class StreamInfoRequest(Wire):
    """STREAM.INFO. Shapes: `subjects_filter` asks for `subjects`, from `offset` on."""

    go_name: ClassVar[str] = "JSApiStreamInfoRequest"

    offset: Int = 0
    deleted_details: Flag = False
    subjects_filter: Text = ""


class StreamInfoResponse(Paged):
    """STREAM.INFO; paging is zero unless subjects were asked for and there are some."""

    kind: ClassVar[str] = "stream_info_response"

    info: StreamInfo

    def wire(self) -> dict[str, Any]:
        """The info's fields stand in the answer itself."""
        out = super().wire()
        info = out.pop("info")
        return {**out, **info}


class PagedRequest(Wire):
    """A page that begins at `offset`."""

    go_name: ClassVar[str] = "ApiPagedRequest"

    offset: Int = 0


class StreamNamesRequest(PagedRequest):
    """STREAM.NAMES. Shapes: `subject` keeps streams whose subjects collide with it."""

    go_name: ClassVar[str] = "JSApiStreamNamesRequest"

    subject: Text = ""


class StreamListRequest(StreamNamesRequest):
    """STREAM.LIST."""

    go_name: ClassVar[str] = "JSApiStreamListRequest"


class StreamNamesResponse(Paged):
    """STREAM.NAMES; None (`null`) when there are none."""

    kind: ClassVar[str] = "stream_names_response"
    on_error: ClassVar[dict[str, Any]] = {**PAGING, "streams": None}

    streams: Annotated[list[str] | None, ALWAYS] = None


class StreamListResponse(Paged):
    """STREAM.LIST."""

    kind: ClassVar[str] = "stream_list_response"
    on_error: ClassVar[dict[str, Any]] = {**PAGING, "streams": []}

    streams: Annotated[list[StreamInfo], ALWAYS] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)
    offline: dict[str, str] = Field(default_factory=dict)


class StreamDeleteResponse(Done):
    """STREAM.DELETE."""

    kind: ClassVar[str] = "stream_delete_response"


STREAM_NAMES_LIMIT = 1024
STREAM_LIST_LIMIT = 256
STREAM_SUBJECTS_LIMIT = 100_000
