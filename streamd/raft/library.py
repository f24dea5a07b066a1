"""The library's surroundings: what it gets in place of its own journal, network, clock, poller and snapshots, and which parts
of its inside `core` uses.

Guarantee:  it reads no clock, opens no descriptor, starts no thread and unpickles nothing. A version other than the one that
            this was written for is refused when this is imported.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from streamd.raft.errors import RaftError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from streamd.raft.journal import Journal
    from streamd.raft.net import NodeId
    from streamd.raft.node import PeerNode


@contextlib.contextmanager
def _absent(name: str) -> Iterator[None]:
    """Let nobody find a package that isn't loaded yet."""
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    loaded = name in modules
    modules.setdefault(name, None)
    try:
        yield
    finally:
        if not loaded:
            del modules[name]


# For a network of its own the library would load it, and that takes 10 MB.
with _absent("cryptography"):
    from pysyncobj import syncobj
    from pysyncobj.config import SyncObjConf
    from pysyncobj.node import Node
    from pysyncobj.syncobj import SyncObj
    from pysyncobj.transport import Transport
    from pysyncobj.version import VERSION as FOUND

__all__ = ["LogView", "Moment", "NoPoller", "NoSnapshots", "Node", "SyncObj", "SyncObjConf", "Wanted", "Wire"]

VERSION: Final = "0.3.17"
#: Attributes of an instance that are read or written, and methods of the class that are called or replaced.
ATTRIBUTES: Final = (
    "connectedNodes",
    "lastResponseTime",
    "leaderCommitIndex",
    "newAppendEntriesTime",
    "noopIDx",
    "otherNodes",
    "raftCommitIndex",
    "raftCurrentTerm",
    "raftElectionDeadline",
    "raftLastApplied",
    "raftLeader",
    "raftLog",
    "raftState",
    "selfNode",
    "serializer",
    "transport",
)
METHODS: Final = (
    "_SyncObj__applyLogEntries",
    "_SyncObj__doApplyCommand",
    "_SyncObj__generateRaftTimeout",
    "_SyncObj__sendAppendEntries",
    "_SyncObj__setCurrentTerm",
    "_SyncObj__setState",
    "_SyncObj__updateClusterConfiguration",
    "_onTick",
)


class Moment:
    """What the library takes for the time: that of the node whose call it is in, in seconds."""

    now = 0.0


class Wanted(Protocol):
    """Who is told what the library wants to send."""

    def ask_vote(self, node: NodeId) -> None:
        """Ask a node for its vote, in the current term."""

    def grant_vote(self, node: NodeId) -> None:
        """Tell a node that it has this node's vote in the current term."""

    def answer_append(self, node: NodeId, *, success: bool) -> None:
        """Answer the append that is being handled."""


class LogView:
    """The journal as the library sees it: a list of (command, index, term). Commands stay away: it never looks at one."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __len__(self) -> int:
        terms = self._journal.terms
        return terms.last - terms.base + 1

    def __getitem__(self, item: Any) -> Any:
        terms = self._journal.terms
        if item == -1:
            return b"", terms.last, terms.last_term
        if isinstance(item, slice):
            base, at = terms.base, terms.at
            return [(b"", base + n, at(base + n)) for n in range(*item.indices(len(self)))]
        index = range(terms.base, terms.last + 1)[item]
        return b"", index, terms.at(index)

    def add(self, command: bytes, index: int, term: int) -> None:
        added = self._journal.add(command, term)
        assert added == index

    def deleteEntriesFrom(self, position: int) -> None:  # noqa: N802
        self._journal.truncate(self._journal.terms.base + position)

    def setCurrentTerm(self, term: int, vote: NodeId | None) -> None:  # noqa: N802
        self._journal.set_term(term, vote)

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self._journal.term

    def getVotedForNodeId(self) -> NodeId | None:  # noqa: N802
        return self._journal.vote

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        self._journal.commit = index

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        return self._journal.commit

    def onOneSecondTimer(self) -> None:  # noqa: N802
        pass


class Wire(Transport):  # type: ignore[misc]
    """The network as the library sees it."""

    def __init__(self, owner: Wanted) -> None:
        super().__init__(None, None, None)
        self._owner = owner

    def send(self, node: PeerNode, message: dict[str, Any]) -> bool:
        kind = message["type"]
        if kind == "next_node_idx":
            self._owner.answer_append(node.id, success=message["success"])
        elif kind == "request_vote":
            self._owner.ask_vote(node.id)
        else:
            assert kind == "response_vote", kind
            self._owner.grant_vote(node.id)
        return True

    def addNode(self, node: PeerNode) -> None:  # noqa: N802
        pass

    def dropNode(self, node: PeerNode) -> None:  # noqa: N802
        pass

    def destroy(self) -> None:
        pass


class NoPoller:
    """Nothing is polled."""

    def poll(self, timeout: float) -> None:
        pass


class NoSnapshots:
    """States are the machines' affair."""

    def checkSerializing(self) -> tuple[int, None]:  # noqa: N802
        return 0, None


def _now() -> float:
    return Moment.now


def _create_journal(journal: object) -> Any:
    return journal if isinstance(journal, LogView) else _create_journal_before(journal)


def check() -> None:
    """Refuse a library other than the one this was written for. Errors: RaftError."""
    if FOUND != VERSION:
        raise RaftError(f"PySyncObj {FOUND} is installed, and only {VERSION} is understood: install that one")
    written = syncobj.SyncObj.__init__.__code__.co_names
    missing = [name for name in ATTRIBUTES if f"_SyncObj__{name}" not in written]
    missing += [name for name in METHODS if not callable(getattr(syncobj.SyncObj, name, None))]
    missing += [name for name in ("createJournal", "monotonicTime") if not callable(getattr(syncobj, name, None))]
    if missing:
        raise RaftError(f"PySyncObj {FOUND} lacks {', '.join(missing)}: install it anew")


check()
_create_journal_before = syncobj.createJournal
syncobj.createJournal = _create_journal
syncobj.monotonicTime = _now
