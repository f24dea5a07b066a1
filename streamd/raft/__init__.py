"""Replicated groups: what is committed is on the disks of a quorum, in one order, for ever.

In the walk:  `streams/` opens groups and proposes; `cluster/` carries the frames; below are the store and the clock.
Guarantee:    a command that `Machine.committed` was called with is on a quorum's disks, and every node's machine gets the same
              commands in the same order, whatever the network loses, doubles, delays or reorders, and whoever crashes.
Not here:     what a command means; how a machine's state travels to one who is behind.

The duties of who uses this:
    1. open a group with what its machine has durably applied; `bootstrap` a new one on all its voters alike
    2. `propose` on the leader; act when `committed` is called, on every node alike; never call back from there
    3. call `applied` once effects are durable: before that, the entries stay
    4. when `behind` is called, fetch the leader's state, make it durable, call `installed`
    5. a proposal whose leader changed may be committed or not: look what comes through `committed`

    host                                all groups of a node
    group                               the face of one
    sides                               what a machine has to be
    replica                             the rules around the library, in two halves:
      elections, prevote, transfer        who leads
      replication, sending, guard, reads  what a leader and its followers tell each other
    barrier                             nothing is said before it is on the disk
    membership, config                  who belongs to it
    journal, entries, terms, storage    what is stored
    envelope, net, node                 what travels
    core, library                       PySyncObj; nothing else knows its inside
    options, errors
    survivor                            a group that goes on with one node
"""

from streamd.raft.config import Config
from streamd.raft.errors import ChangeRefused, JournalDamaged, NotLeader, Overloaded, RaftError
from streamd.raft.group import Group, PeerStatus
from streamd.raft.host import Host
from streamd.raft.net import Net, NodeId
from streamd.raft.options import Fixes, Options
from streamd.raft.sides import Machine
from streamd.raft.storage import Storage, define

__all__ = [
    "ChangeRefused",
    "Config",
    "Fixes",
    "Group",
    "Host",
    "JournalDamaged",
    "Machine",
    "Net",
    "NodeId",
    "NotLeader",
    "Options",
    "Overloaded",
    "PeerStatus",
    "RaftError",
    "Storage",
    "define",
]
