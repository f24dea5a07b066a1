"""The library as it is shipped, one node of it in a test's hands, for showing what it does."""

from __future__ import annotations

from typing import Any

from pysyncobj.config import SyncObjConf
from pysyncobj.syncobj import SyncObj
from pysyncobj.transport import Transport

from streamd.raft.library import Moment
from streamd.raft.node import PeerNode


class _Wire(Transport):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(None, None, None)
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def send(self, node: PeerNode, message: dict[str, Any]) -> bool:
        self.sent.append((node.id, message))
        return True

    def addNode(self, node: PeerNode) -> None:  # noqa: N802
        pass

    def dropNode(self, node: PeerNode) -> None:  # noqa: N802
        pass

    def destroy(self) -> None:
        pass


class Stock:
    """Node "a" among others, all connected."""

    def __init__(self, *others: str, **conf: Any) -> None:
        Moment.now = 1.0
        self.wire = _Wire()
        self.nodes = {name: PeerNode(name) for name in ("a", *others)}
        conf = {"autoTick": False, "commandsWaitLeader": False, "fullDumpFile": None, **conf}
        self.object = SyncObj(
            self.nodes["a"],
            [self.nodes[name] for name in others],
            conf=SyncObjConf(**conf),
            nodeClass=PeerNode,
            transport=self.wire,
        )
        for name in others:
            self.wire._onNodeConnected(self.nodes[name])

    def get(self, sender: str, kind: str, **fields: Any) -> None:
        """A message arrives."""
        self.wire._onMessageReceived(self.nodes.setdefault(sender, PeerNode(sender)), {"type": kind, **fields})

    def tick(self, seconds: float = 0.0) -> None:
        """Time passes, then it looks around."""
        Moment.now += seconds
        self.object._onTick(0.0)

    def private(self, name: str) -> Any:
        """A private attribute."""
        return getattr(self.object, f"_SyncObj__{name}")

    @property
    def log(self) -> list[tuple[bytes, int, int]]:
        """The entries."""
        entries: list[tuple[bytes, int, int]] = self.private("raftLog")[:]
        return entries

    def lead(self) -> None:
        """Win an election."""
        self.tick(5.0)
        for name in list(self.nodes)[1:]:
            self.get(name, "response_vote", term=self.private("raftCurrentTerm"))
        assert self.object._isLeader()
        self.wire.sent.clear()
