"""The JetStream API of a cluster: the requests that the meta leader decides, and those about who leads.

Not here:   who answers a request (serving), requests that a server alone answers in the same way.
Source: nats-server 2.15.2 for texts and codes.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

from streamd import limits
from streamd._engine import subject_collides
from streamd.api import cluster as cluster_wire
from streamd.api import stream as wire
from streamd.api.account import AccountInfoResponse, AccountLimits, ApiStats
from streamd.api.errors import (
    CONSUMER_NOT_FOUND,
    NO_PEERS,
    PEER_NOT_MEMBER,
    SERVER_NOT_MEMBER,
    STREAM_INVALID_CONFIG,
    STREAM_NAME_EXISTS,
    STREAM_NOT_FOUND,
    STREAMS_MAX,
    SUBJECT_OVERLAP,
    ApiError,
)
from streamd.state.meta import STREAMING_GROUP
from streamd.state.stream import stream_create, stream_equal, stream_update, subjects_overlap
from streamd.streams.definitions import CHANNEL_OWNER
from streamd.streams.replication.serving import Serving, unavailable
from streamd.streams.replication.view import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamd.api.stream import StreamConfig
    from streamd.raft.group import Group
    from streamd.state.meta import Assignment, Change
    from streamd.streams.api import Call
    from streamd.streams.replication.membership import HandOver
    from streamd.streams.replication.node import Replication


class ClusterApi:
    """Handlers that stand in front of those of a server alone."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._jetstream = replication.jetstream
        self._serving = Serving(replication)

    # who answers

    def serves(self, call: Call) -> bool:
        """Whether this server answers a request. Errors: ApiError if nobody could."""
        return self._serving.serves(call)

    def ask_again(self, call: Call) -> None:
        """Have a request answered that this server can't answer as it leads no more."""
        self._serving.ask_again(call)

    def look(self, group: str) -> None:
        """Somebody leads a group from now on, this server or another one."""
        self._serving.look(group)

    def close(self) -> None:
        """The server stops."""
        self._serving.close()

    # streams

    def _serially(self, call: Call, job: Callable[[], None]) -> None:
        """Run once earlier proposals are through."""

        def guarded() -> None:
            try:
                job()
            except ApiError as error:
                if error == STREAM_NOT_FOUND():
                    self._serving.surely(partial(call.fail, error))
                else:
                    call.fail(error)

        self._replication.meta.serially(guarded, lambda: self.proposed(call, None))

    def stream_create(self, call: Call, request: wire.StreamConfigRequest) -> None:
        """Place a new stream."""
        replication = self._replication

        def job() -> None:
            config = stream_create(request, call.arguments[0], self._jetstream.limits)
            existing = replication.meta.state.streams.get(config.name)
            if existing is not None:
                if not stream_equal(self._jetstream.config_of(existing.config), config):
                    raise STREAM_NAME_EXISTS()
                again = partial(wire.StreamCreateResponse, did_create=False)
                replication.infos.get(existing, lambda info: call.answer(again(info=info)))
                return
            if config.name in self._jetstream.streams:
                raise STREAM_NAME_EXISTS()
            self.check_overlap(config.subjects, None)
            names = self.place(config, ())
            replication.assign(config, names, call.message.reply, lambda error: self._failed(call, error))

        self._serially(call, job)

    def _failed(self, call: Call, error: ApiError | None) -> None:
        if error is not None:
            call.fail(error)

    def place(self, config: StreamConfig, keep: Sequence[str], without: str = "") -> tuple[str, ...]:
        """Servers for a stream, those of `keep` first, if they can be reached. Errors: ApiError 10005, saying what was looked
        for; 10027 if there are enough but for those whose stores hold as many streams as they can."""
        replication = self._replication
        placement = config.placement
        cluster, tags = ("", []) if placement is None else (placement.cluster, placement.tags)
        state = replication.meta.state
        alive = self._serving.alive() - {without}
        full = replication.placing.full()
        stored = bool(keep) or config.num_replicas > 1 or config.storage != "memory"
        crowded = self._crowded() - {*keep} if stored else set()
        names = state.place(config.num_replicas, alive - crowded, cluster, tags, keep, full)
        if names is None:
            if crowded and state.place(config.num_replicas, alive, cluster, tags, keep, full) is not None:
                raise STREAMS_MAX()
            fit = state.candidates(alive, cluster, tags)
            wanted = "".join([f", cluster {cluster!r}" if cluster else "", f", tags {tags}" if tags else ""])
            raise NO_PEERS(
                err=f"no suitable peers for placement: {config.num_replicas} wanted{wanted}; "
                f"{len(fit)} of {len(state.nodes)} servers fit and can be reached"
                f"{', without room: ' if full else ''}{', '.join(sorted(full))}"
            )
        return names

    def _crowded(self) -> set[str]:
        """Servers that have no place for another stream in their stores: one that began all the same would end them."""
        state, most = self._replication.meta.state, limits.STORE_STREAMS_MAX
        # NATS Streaming's are on all of its servers, and so here.
        channels = sum(stream.channel is not None for stream in self._jetstream.streams.values())
        if len(state.streams) + len(state.groups) + channels < most:
            return set()
        streaming = state.groups.get(STREAMING_GROUP)
        count = Counter({} if streaming is None else dict.fromkeys(streaming.names, channels))
        for group in state.groups.values():
            count.update(group.names)
        for stream in state.streams.values():
            if stream.group or stream.move or stream.config.get("storage") != "memory":
                count.update({*stream.names, *stream.moving_names})
        return {name for name, streams in count.items() if streams >= most}

    def check_overlap(self, subjects: Sequence[str], besides: Assignment | None) -> None:
        """Subjects belong to one stream. Errors: ApiError 10065."""
        state = self._replication.meta.state
        taken = [stream.config.get("subjects", []) for stream in state.streams.values() if stream is not besides]
        taken += [stream.subjects for stream in self._jetstream.streams.values() if stream.channel is not None]
        if any(subjects_overlap(subjects, other) for other in taken):
            raise SUBJECT_OVERLAP()

    def _assignment(self, call: Call) -> Assignment:
        """The stream named in the subject. Errors: ApiError."""
        name = call.arguments[0]
        found = self._replication.meta.state.streams.get(name)
        if found is not None:
            return found
        stream = self._jetstream.streams.get(name)
        if stream is not None:
            channel = (stream.config.metadata or {}).get("nats-streaming.channel", stream.channel)
            replicated = CHANNEL_OWNER.format(channel) if stream.channel is not None and stream.group else None
            raise STREAM_INVALID_CONFIG(
                err=f"stream {name} is {replicated or stream.owner or 'not one of this cluster'}"
            )
        raise STREAM_NOT_FOUND()

    def stream_update(self, call: Call, request: wire.StreamConfigRequest) -> None:
        """Change a stream, and move it where its replicas or placement change."""
        replication = self._replication

        def job() -> None:
            found = self._assignment(call)
            old = self._jetstream.config_of(found.config)
            config = stream_update(old, request, call.arguments[0], self._jetstream.limits)
            self.check_overlap(config.subjects, found)
            moves = config.num_replicas != old.num_replicas or config.placement != old.placement
            if moves:
                replication.mover.update(call, found, config, self.place(config, found.names))
                return
            command = {"do": "configure", "uid": found.uid, "config": config.wire(), "reply": call.message.reply}
            replication.meta.propose(command, lambda change: self.proposed(call, change))

        self._serially(call, job)

    def proposed(self, call: Call, change: Change | None) -> None:
        """Tell who asked if a command has come to nothing."""
        if change is None:
            call.fail(unavailable("the meta leader changed"))
        elif change.kind == "refused":
            call.fail(STREAM_NOT_FOUND())

    def stream_delete(self, call: Call, _request: None) -> None:
        """Remove a stream."""
        replication = self._replication

        def job() -> None:
            found = self._assignment(call)

            def removed(change: Change | None) -> None:
                self.proposed(call, change)
                if change is not None and change.kind == "removed":
                    replication.services.advisories.stream_action(found.name, "delete")
                    # Who asks again at once may ask another server.
                    nodes = [replication.node_named(name) for name in found.names]
                    known = [node for node in nodes if node is not None]
                    replication.meta.when_known(known, lambda: call.answer(wire.StreamDeleteResponse()))

            replication.meta.propose({"do": "remove", "uid": found.uid}, removed)

        self._serially(call, job)

    # lists

    def _matching(self, subject: str) -> list[str]:
        state = self._replication.meta.state
        subjects = {name: stream.config.get("subjects", []) for name, stream in state.streams.items()}
        subjects |= {name: stream.subjects for name, stream in self._jetstream.streams.items() if name not in subjects}
        if not subject:
            return sorted(subjects)
        return sorted(name for name, own in subjects.items() if any(subject_collides(each, subject) for each in own))

    def stream_names(self, call: Call, request: wire.StreamNamesRequest) -> None:
        """Names, sorted, a page at a time."""
        names = self._matching(request.subject)
        offset = min(max(request.offset, 0), len(names))
        limit = wire.STREAM_NAMES_LIMIT
        page = names[offset : offset + limit]
        call.answer(wire.StreamNamesResponse(total=len(names), offset=offset, limit=limit, streams=page or None))

    def stream_list(self, call: Call, request: wire.StreamListRequest) -> None:
        """Infos, sorted by name, a page at a time, from whoever has them."""
        names = self._matching(request.subject)
        offset = min(max(request.offset, 0), len(names))
        limit = wire.STREAM_LIST_LIMIT

        def done(infos: list[wire.StreamInfo], missing: list[str]) -> None:
            call.answer(
                wire.StreamListResponse(total=len(names), offset=offset, limit=limit, streams=infos, missing=missing)
            )

        self._replication.infos.all(names[offset : offset + limit], done)

    def account_info(self, call: Call, _request: None) -> None:
        """Usage of all servers together."""
        replication = self._replication
        api = self._jetstream.api

        def done(memory: int, storage: int, consumers: int) -> None:
            configs = [self._jetstream.config_of(each.config) for each in replication.meta.state.streams.values()]
            call.answer(
                AccountInfoResponse(
                    memory=memory,
                    storage=storage,
                    reserved_memory=sum(max(each.max_bytes, 0) for each in configs if each.storage == "memory"),
                    reserved_storage=sum(max(each.max_bytes, 0) for each in configs if each.storage != "memory"),
                    streams=len(self._matching("")),
                    consumers=consumers,
                    limits=AccountLimits(),
                    api=ApiStats(total=api.total, errors=api.errors),
                )
            )

        replication.infos.usage(done)

    # leaders and peers

    def stream_stepdown(self, call: Call, request: cluster_wire.LeaderStepdownRequest | None) -> None:
        """Let another server lead the stream's group."""
        stream = call.stream_online()
        if stream.replica is None:
            call.answer(cluster_wire.StreamLeaderStepdownResponse())
            return
        response = cluster_wire.StreamLeaderStepdownResponse()
        self._step_down(call, stream.replica.group, stream.replica.hand_over, request, response)

    def consumer_stepdown(self, call: Call, request: cluster_wire.LeaderStepdownRequest | None) -> None:
        """A consumer is led by its stream's leader: let another lead both."""
        stream = call.stream_online()
        if call.arguments[1] not in stream.consumers:
            raise CONSUMER_NOT_FOUND()
        response = cluster_wire.ConsumerLeaderStepdownResponse()
        if stream.replica is None:
            call.answer(response)
        else:
            self._step_down(call, stream.replica.group, stream.replica.hand_over, request, response)

    def meta_stepdown(self, call: Call, request: cluster_wire.LeaderStepdownRequest | None) -> None:
        """Let another server lead the meta group."""
        response = cluster_wire.MetaLeaderStepdownResponse()
        meta = self._replication.meta.group
        self._step_down(call, meta, meta.transfer, request, response)

    def _step_down(
        self,
        call: Call,
        group: Group,
        hand_over: HandOver,
        request: cluster_wire.LeaderStepdownRequest | None,
        response: Any,
    ) -> None:
        if self._replication.membership.moved_by(group.name, call.message.reply):
            return  # by the leader before, who answers
        placement = None if request is None else request.placement
        to = None
        if placement is not None and placement.preferred:
            if placement.preferred not in self._replication.meta.state.nodes:
                raise NO_PEERS(err=f'preferred server "{placement.preferred}" not known')
            if placement.preferred == self._replication.name:
                raise NO_PEERS(err=f'preferred server "{placement.preferred}" is already leader')
        if placement is not None and (placement.preferred or placement.tags or placement.cluster):
            state = self._replication.meta.state
            alive = {name_of(node) for node in self._replication.net.linked()}
            fit = state.candidates(alive, placement.cluster, placement.tags)
            chosen = [
                node
                for node in group.config.voters
                if node != group.node and name_of(node) in fit and placement.preferred in ("", name_of(node))
            ]
            if not chosen:
                raise NO_PEERS(err="no replacement peer that fits the placement can be reached")
            to = chosen[0]
        self._replication.membership.wanders(group.name, call.message.reply)

        def done(moved: bool) -> None:
            if moved:
                call.answer(response)
            else:
                call.fail(unavailable(f"no other replica of group {group.name} could take over"))

        hand_over(to, done)

    def stream_peer_remove(self, call: Call, request: cluster_wire.PeerRequest) -> None:
        """Take a stream away from a server, and give it to another one."""
        replication = self._replication

        def job() -> None:
            found = self._assignment(call)
            if request.peer not in found.names:
                raise PEER_NOT_MEMBER()
            config = self._jetstream.config_of(found.config)
            keep = [name for name in found.names if name != request.peer]
            try:
                names = self.place(config, keep, request.peer)
            except ApiError as error:
                raise NO_PEERS(err=f"no server can take the place of {request.peer}: {error.description}") from None

            def agreed(change: Change | None) -> None:
                self.proposed(call, change)
                if change is not None and change.kind != "refused":
                    call.answer(cluster_wire.StreamRemovePeerResponse())

            replication.mover.away(found, names, agreed)

        self._serially(call, job)

    def server_remove(self, call: Call, request: cluster_wire.ServerRequest) -> None:
        """Take a server out of the cluster."""
        replication = self._replication

        def job() -> None:
            name = next(
                (
                    each
                    for each in replication.meta.state.nodes
                    if each == request.peer or cluster_wire.peer_id(each) in (request.peer, request.peer_id)
                ),
                None,
            )
            if name is None:
                raise SERVER_NOT_MEMBER()

            def forgotten(change: Change | None) -> None:
                if change is None:
                    call.fail(unavailable("the meta leader changed"))
                else:
                    call.answer(cluster_wire.MetaServerRemoveResponse())

            replication.meta.propose({"do": "forget", "name": name}, forgotten)

        self._serially(call, job)
