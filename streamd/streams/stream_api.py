"""Handlers of streams: create, update, names, list, info, delete. Source: nats-server 2.15.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd import limits
from streamd._engine import subject_collides
from streamd.api import stream as wire
from streamd.api.cluster import ClusterInfo
from streamd.api.errors import (
    MEMORY_EXCEEDED,
    STORAGE_EXCEEDED,
    STREAM_INVALID_CONFIG,
    STREAM_NAME_EXISTS,
    STREAM_NOT_FOUND,
    STREAMS_MAX,
    SUBJECT_OVERLAP,
    ApiError,
)
from streamd.api.metadata import dynamic
from streamd.core.info import PROTOCOL_VERSION
from streamd.state.stream import stream_create, stream_equal, stream_update, subjects_overlap

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamd.streams.api import Call
    from streamd.streams.jetstream import JetStream
    from streamd.streams.stream import Stream


class StreamApi:
    """STREAM.CREATE, UPDATE, NAMES, LIST, INFO and DELETE."""

    def __init__(self, jetstream: JetStream) -> None:
        self._jetstream = jetstream

    def stream_create(self, call: Call, request: wire.StreamConfigRequest) -> None:
        """Make a stream, or answer as if it was made when there is the same."""
        jetstream = self._jetstream
        config = stream_create(request, call.arguments[0], self._jetstream.limits)
        existing = jetstream.streams.get(config.name)
        if existing is not None:
            if not stream_equal(existing.config, config):
                raise STREAM_NAME_EXISTS()
            call.answer(wire.StreamCreateResponse(info=self.info(existing, clustered=False)))
            return
        self._check_overlap(config.subjects, jetstream.streams.values())
        if config.storage != "memory" and jetstream.stored_streams() >= limits.STORE_STREAMS_MAX:
            raise STREAMS_MAX()
        self._check_room(config, None)

        def done(stream: Stream, error: ApiError | None) -> None:
            if error is not None:
                call.fail(error)
            else:
                call.answer(wire.StreamCreateResponse(info=self.info(stream, clustered=False)))

        jetstream.create_stream(config, done)

    def stream_update(self, call: Call, request: wire.StreamConfigRequest) -> None:
        """Change what may change of a stream."""
        jetstream = self._jetstream
        stream = call.stream_online()
        self._check_owner(stream)
        config = stream_update(stream.config, request, call.arguments[0], self._jetstream.limits)
        self._check_overlap(config.subjects, (other for other in jetstream.streams.values() if other is not stream))
        self._check_room(config, stream)

        def done(error: ApiError | None) -> None:
            if error is not None:
                call.fail(error)
            else:
                call.answer(wire.StreamUpdateResponse(info=self.info(stream, clustered=False)))

        jetstream.update_stream(stream, config, done)

    def _check_owner(self, stream: Stream) -> None:
        if stream.owner is not None:
            raise STREAM_INVALID_CONFIG(err=f"stream {stream.name} is {stream.owner}")

    def _check_overlap(self, subjects: Sequence[str], others: Iterable[Stream]) -> None:
        if any(subjects_overlap(subjects, other.subjects) for other in others):
            raise SUBJECT_OVERLAP()

    def _check_room(self, config: wire.StreamConfig, stream: Stream | None) -> None:
        room = self._jetstream.rooms[config.storage == "memory"]
        if not room.reservable(config.max_bytes, besides=stream):
            raise MEMORY_EXCEEDED() if config.storage == "memory" else STORAGE_EXCEEDED()

    def stream_names(self, call: Call, request: wire.StreamNamesRequest) -> None:
        """Names, sorted, a page at a time."""
        names = [stream.name for stream in self._matching(request.subject)]
        offset = min(max(request.offset, 0), len(names))
        limit = wire.STREAM_NAMES_LIMIT
        page = names[offset : offset + limit]
        call.answer(wire.StreamNamesResponse(total=len(names), offset=offset, limit=limit, streams=page or None))

    def stream_list(self, call: Call, request: wire.StreamListRequest) -> None:
        """Infos, sorted by name, a page at a time."""
        streams = self._matching(request.subject)
        offset = min(max(request.offset, 0), len(streams))
        limit = wire.STREAM_LIST_LIMIT
        page = streams[offset : offset + limit]
        call.answer(
            wire.StreamListResponse(
                total=len(streams),
                offset=offset,
                limit=limit,
                streams=[self.info(stream, clustered=False, listed=True) for stream in page if stream.offline is None],
                offline={stream.name: stream.offline for stream in page if stream.offline is not None},
            )
        )

    def _matching(self, subject: str) -> list[Stream]:
        streams = sorted(self._jetstream.streams.values(), key=lambda stream: stream.name)
        if not subject:
            return streams
        return [stream for stream in streams if any(subject_collides(own, subject) for own in stream.subjects)]

    def stream_info(self, call: Call, request: wire.StreamInfoRequest) -> None:
        """One info, with deleted sequences and subjects if asked for."""
        stream = call.stream_online()
        info = self.info(stream)
        if request.deleted_details:
            info.state.deleted = stream.state.deleted(1 << 20)
        paging = {}
        if request.subjects_filter:
            limit = wire.STREAM_SUBJECTS_LIMIT
            found = stream.state.subjects(request.subjects_filter, 0, 1 << 40)
            if found:
                offset = max(request.offset, 0)
                info.state.subjects = dict(found[offset : offset + limit])
                paging = {"total": len(found), "offset": offset, "limit": limit}
        call.answer(wire.StreamInfoResponse(info=info, **paging))

    def stream_delete(self, call: Call, _request: None) -> None:
        """Remove a stream with all that is in it; an offline one too, as that is a way out of damage."""
        stream = call.stream()

        def done(error: ApiError | None) -> None:
            if error is not None:
                call.fail(error)
            else:
                call.answer(wire.StreamDeleteResponse())

        if self._jetstream.streams.get(stream.name) is not stream:
            raise STREAM_NOT_FOUND()
        self._check_owner(stream)
        self._jetstream.delete_stream(stream, done, keep=True)

    def _cluster(self, stream: Stream, *, clustered: bool) -> ClusterInfo | None:
        view = self._jetstream.view
        if view is not None:
            return view.of_stream(stream)
        return ClusterInfo(leader=self._jetstream.server_name) if clustered else None

    def info(self, stream: Stream, *, clustered: bool = True, listed: bool = False) -> wire.StreamInfo:
        """What clients see of a stream. `listed`: in a list, with the stored metadata only."""
        state = stream.state
        config = stream.config
        if not listed:
            config = config.model_copy(update={"metadata": dynamic(config.metadata, PROTOCOL_VERSION)})
        return wire.StreamInfo(
            config=config,
            created=stream.created_ns,
            state=wire.StreamState(
                messages=state.messages,
                bytes=state.bytes,
                first_seq=state.first_seq,
                first_ts=stream.first_timestamp_ns(),
                last_seq=state.last_seq,
                last_ts=state.last_ts_ns,
                num_subjects=state.num_subjects,
                num_deleted=state.num_deleted,
                consumer_count=stream.num_consumers,
            ),
            cluster=self._cluster(stream, clustered=clustered),
            ts=self._jetstream.services.clock.now_ns(),
        )
