"""Nodes as the library knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from streamd.raft.library import Node

if TYPE_CHECKING:
    from streamd.raft.net import NodeId


class PeerNode(Node):  # type: ignore[misc]
    """A node whose hash is the same in every process: the library walks sets of nodes, and a seeded run repeats only if the
    order of its sends does."""

    id: NodeId

    def __init__(self, node: NodeId) -> None:
        super().__init__(node)
        self._hash = crc32(node.encode())

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Node) and self.id == other.id)

    def __hash__(self) -> int:
        return self._hash
