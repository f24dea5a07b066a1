"""What a stopped server's store has of its cluster, and making it all that there is of the cluster.

In the walk:  `streamd recover`, when a quorum is gone for good.
Guarantee:    nothing is removed from the store but what says who belongs to a group, and of that a copy is kept beside each
              journal. The survivor takes a new identity, so servers that were given up can't reach it as the one they knew, and
              they are told so. A second time changes nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from streamd.api.stream import StreamConfig
from streamd.errors import StoreError, StreamCorrupt
from streamd.raft.envelope import REGULAR
from streamd.raft.journal import Journal
from streamd.raft.storage import Storage, new_node
from streamd.raft.survivor import go_on_alone
from streamd.state.meta import MetaState
from streamd.store import Environment, StreamLog, TailCache, Work, Writer, recover, restore_state
from streamd.streams.definitions import fixed_options, stream_options
from streamd.streams.journals import META, check_journals, take_journals
from streamd.streams.reading_back import explain_gaps
from streamd.streams.replication.metagroup import STATE_ROW
from streamd.streams.replication.replica import APPLIED, APPLIED_ROW
from streamd.streams.replication.view import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streamd.store import Outcome, StoredStream

#: Rows of a journal from here on say what it was before a recovery.
BEFORE_ROW: Final = 16
_READ_BYTES: Final = 8 << 20


class NothingToRecover(StoreError):
    """The store is no member's, or can't be made a cluster's beginning."""


@dataclass(slots=True)
class FoundGroup:
    """A group as the store has it."""

    name: str
    voters: list[str]
    learners: list[str]
    term: int
    last_term: int  # of the last entry
    last_index: int
    committed: int  # as far as this server knows
    applied: int


@dataclass(slots=True)
class FoundStream:
    """A stream as the store has it."""

    name: str
    group: str  # "": it has no other replicas
    last_seq: int
    messages: int
    problem: str = ""  # why that isn't all, or can't be read


@dataclass(slots=True)
class Found:
    """What there is to choose a survivor by."""

    directory: str
    node: str
    alone: bool  # this server is the only voter already
    groups: list[FoundGroup] = field(default_factory=list)
    streams: list[FoundStream] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)  # streams of which this server has nothing
    servers: list[str] = field(default_factory=list)  # others of the cluster


class Survivor:
    """A store, open. Use as a context manager."""

    def __init__(self, directory: Path) -> None:
        """Errors: StoreError, also if a server runs on it, or if it is damaged where that can't be healed."""
        if not directory.exists():
            raise NothingToRecover(f"there is no store in {directory}")
        self._directory = directory
        self._environment = Environment.open(directory)
        try:
            stored = recover(self._environment)
            self._stored, self._rest = take_journals(stored, directory, clustered=True)
            if META not in self._stored:
                raise NothingToRecover(f"the store in {directory} is not that of a member of a cluster")
            check_journals(self._stored, self._log, directory)
            self._journals = {
                name: Journal.found(name, Storage.found(self._log(each.stream), each))
                for name, each in self._stored.items()
            }
            self._meta = self._meta_state()
        except BaseException:
            self._environment.close()
            raise

    def __enter__(self) -> Survivor:
        return self

    def __exit__(self, *_: object) -> None:
        self._environment.close()

    def _log(self, stream: int) -> StreamLog:
        return StreamLog(self._environment, TailCache(), stream)

    def _meta_state(self) -> MetaState:
        """With all entries that this server has, committed or not: they all count if it goes on alone."""
        stored, journal = self._stored[META], self._journals[META]
        row = stored.consumers.get(STATE_ROW)
        state, index = MetaState(), 0
        if row is not None:
            state, index = MetaState.decode(row.definition), _applied(stored)
        for at, command in _commands(journal, index + 1):
            state.apply(at, json.loads(command))
        return state

    @property
    def node(self) -> str:
        """The Raft id of the store."""
        return str(json.loads(self._stored[META].definition)["node"])

    def found(self) -> Found:
        """What the store has."""
        alone = all(journal.config.voters == (self.node,) for journal in self._journals.values())
        found = Found(str(self._directory), self.node, alone)
        for name, journal in sorted(self._journals.items()):
            terms, config = journal.terms, journal.config
            found.groups.append(
                FoundGroup(
                    name,
                    list(config.voters),
                    list(config.learners),
                    journal.term,
                    terms.last_term,
                    terms.last,
                    max(journal.commit, _applied(self._stored[name])),
                    _applied(self._stored[name]),
                )
            )
        here: set[int] = set()
        for stored in self._rest:
            definition = json.loads(stored.definition or b"{}")
            if "service" not in definition:
                found.streams.append(self._stream(stored, definition))
                here.add(definition.get("uid", 0))
        lost = [
            stream.name for stream in self._meta.streams.values() if stream.group and stream.group not in self._stored
        ]
        alone_elsewhere = [
            stream.name for stream in self._meta.streams.values() if not stream.group and stream.uid not in here
        ]
        found.elsewhere = sorted([*lost, *alone_elsewhere])
        found.servers = sorted(self._meta.nodes.keys() - {name_of(self.node)})
        return found

    def _stream(self, stored: StoredStream, definition: dict[str, Any]) -> FoundStream:
        found = FoundStream(stored.name, definition.get("group", ""), 0, 0)
        try:
            config = StreamConfig.model_validate(definition.get("config", {}), strict=False)
            channel = definition.get("channel")
            options = stream_options(config, channel) | fixed_options(config, channel)
            explain_gaps(stored)
            state = restore_state(self._environment, stored, self._log(stored.stream), **options)
            found.last_seq, found.messages = state.last_seq, state.messages
        except StreamCorrupt as error:
            found.problem = f"damaged: {error.found}"
        except StoreError as error:
            found.problem = str(error)
        if not found.problem and (definition.get("fetching") or definition.get("partial")):
            found.problem = "this server was still fetching it"
        return found

    def apply(self) -> str | None:
        """Go on alone. Returns the new Raft id, None if there was nothing to do.

        Errors: NothingToRecover for a store with which that would lose what it needn't; StoreError.
        """
        found = self.found()
        if found.alone:
            return None
        incomplete = [stream for stream in found.streams if stream.group and stream.problem]
        if incomplete:
            texts = "; ".join(f"stream {stream.name}: {stream.problem}" for stream in incomplete)
            raise NothingToRecover(
                f"the store in {self._directory} is no whole copy ({texts}): recover from another server, or delete these "
                f"streams' data by hand"
            )
        empty = [group.name for group in found.groups if not group.last_index]
        name = name_of(self.node)
        node = new_node(name)
        work = Work()
        for group, journal in self._journals.items():
            stored = self._stored[group]
            part = work.of(stored.stream)
            part.consumers[self._free_row(stored)] = json.dumps(self._before(group, found)).encode()
            if group in empty:
                continue
            commands = [json.dumps(self._command(name, node, found)).encode()] if group == META else []
            go_on_alone(work, self._log(stored.stream), journal, node, commands)
        meta = self._stored[META]
        definition = {**json.loads(meta.definition), "node": node, "founded": ""}
        work.of(meta.stream).definition = json.dumps(definition).encode()
        self._commit(work)
        return node

    def _command(self, name: str, node: str, found: Found) -> dict[str, Any]:
        """For the state of the meta group: who is left, who is given up, what nobody has."""
        known = {each.node for each in self._meta.nodes.values() if each.node}
        members = {member for group in found.groups for member in (*group.voters, *group.learners)}
        empty = {group.name for group in found.groups if not group.last_index}
        gone = [group for group in self._meta.groups if group not in self._stored or group in empty]
        uids = [stream.uid for stream in self._meta.streams.values() if stream.group in gone]
        banned = sorted({*known, *members, self.node})
        return {"do": "recover", "name": name, "node": node, "banned": banned, "groups": gone, "uids": uids}

    def _before(self, group: str, found: Found) -> dict[str, Any]:
        """What is changed of a journal, as it was."""
        journal = self._journals[group]
        fields: dict[str, Any] = {
            "before": "recover",
            "node": found.node,
            "term": journal.term,
            "vote": journal.vote,
            "voters": journal.config.voters,
            "learners": journal.config.learners,
            "last": journal.terms.last,
            "committed": journal.commit,
        }
        if group == META:
            fields["definition"] = self._stored[META].definition.decode()
        return fields

    @staticmethod
    def _free_row(stored: StoredStream) -> int:
        return max([BEFORE_ROW - 1, *stored.consumers]) + 1

    def _commit(self, work: Work) -> None:
        outcomes: list[Outcome] = []
        writer = Writer(self._environment)
        writer.submit(work, outcomes.append)
        writer.close()
        if outcomes[0].error is not None:
            raise outcomes[0].error


def _applied(stored: StoredStream) -> int:
    row = stored.consumers.get(APPLIED_ROW)
    return 0 if row is None or row.state is None else int(APPLIED.unpack(row.state)[0])


def _commands(journal: Journal, index: int) -> Iterator[tuple[int, bytes]]:
    """(index, command) of the machine's entries from an index on."""
    index = max(index, journal.terms.base + 1)
    while index <= journal.terms.last:
        for _term, entry in journal.entries(index, _READ_BYTES):
            if entry[0] == REGULAR:
                yield index, entry[1:]
            index += 1
