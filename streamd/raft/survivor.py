"""A group that goes on with what one of its nodes has, because a quorum is gone for good.

In the walk:  only `streamd recover` comes here, with the server stopped.
Guarantee:    nothing of the journal is removed: what is new lies behind it, in a later term. Entries that were not committed as
              far as this node knows count as committed from now on; what others committed and this one never got is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd._engine import Records
from streamd.raft import storage as places
from streamd.raft.config import Config
from streamd.raft.envelope import CONFIG, REGULAR
from streamd.raft.journal import term_and_vote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamd.raft.journal import Journal
    from streamd.raft.net import NodeId
    from streamd.raft.storage import EntryLog
    from streamd.store import Work


def go_on_alone(work: Work, log: EntryLog, journal: Journal, node: NodeId, commands: Sequence[bytes] = ()) -> None:
    """Make a node, which may be a new incarnation, the only voter of a group, and add commands of its machine."""
    term = max(journal.term, journal.terms.last_term) + 1
    entries = [bytes((CONFIG,)) + Config((node,)).encode(), *(bytes((REGULAR,)) + command for command in commands)]
    first = journal.terms.last + 1
    log.append(work, Records.entries((index, term, entry) for index, entry in enumerate(entries, first)))
    log.of(work).consumer_states[places.TERM_AND_VOTE] = term_and_vote(term, None)
