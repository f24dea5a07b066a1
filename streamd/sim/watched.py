"""A host of groups whose every step is compared with what the other replicas did.

Guarantee:  machines see exactly what they would see without; the ledger hears of it first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd.raft.errors import JournalDamaged
from streamd.raft.host import Host

if TYPE_CHECKING:
    import logging
    import random
    from collections.abc import Callable

    from streamd.clock import Clock
    from streamd.raft.group import Group
    from streamd.raft.journal import Journal
    from streamd.raft.net import Net, NodeId
    from streamd.raft.options import Options
    from streamd.raft.sides import Machine
    from streamd.raft.storage import Job, Storage
    from streamd.sim.ledger import Ledger

_ALL = 1 << 40


class Watched:
    """A machine with an observer before it."""

    group: Group

    def __init__(
        self, machine: Machine, node: NodeId, ledger: Ledger, failed: Callable[[JournalDamaged], None]
    ) -> None:
        self._machine = machine
        self._node = node
        self._ledger = ledger
        self._failed = failed
        self._leading = False

    def committed(self, index: int, term: int, command: bytes) -> None:
        """The next entry."""
        self._ledger.commit(self._node, index, term, command, self.group.config.voters, self.group.term)
        self._machine.committed(index, term, command)

    def role_changed(self) -> None:
        """Leadership came or went, or the group can't go on."""
        group = self.group
        if group.failed is not None:
            self._failed(group.failed)
        self._ledger.term(self._node, group.term)
        if group.leader == self._node:
            self._ledger.elected(self._node, group.term)
        if group.leading and not self._leading:
            self._ledger.leads(self._node, group.term)
        self._leading = group.leading
        self._machine.role_changed()

    def behind(self, leader: NodeId) -> None:
        """A state is to be fetched."""
        self._machine.behind(leader)


class WatchedHost(Host):
    """The groups of one node."""

    def __init__(
        self,
        net: Net,
        clock: Clock,
        rng: random.Random,
        at_rest: Callable[[Job], None],
        *,
        options: Options,
        settle: Callable[[], None] | None = None,
        log: logging.Logger,
        ledger: Callable[[str], Ledger],
        failed: Callable[[JournalDamaged], None],
        opened: Callable[[Machine], None] = lambda machine: None,
    ) -> None:
        """`ledger`: that of a group. `failed`: hears that a journal can't be read any more. `opened`: hears of machines."""
        super().__init__(net, clock, rng, at_rest, options=options, settle=settle, log=log)
        self._ledger = ledger
        self._failed = failed
        self._opened = opened

    def open(self, name: str, storage: Storage, machine: Machine, applied: int, *, prompt: bool = False) -> Group:
        """As `Host.open`; and what the store gives is what was written. Errors: JournalDamaged."""
        ledger = self._ledger(name)
        watched = Watched(machine, self.node, ledger, self._failed)
        group = watched.group = super().open(name, storage, watched, applied, prompt=prompt)
        self._watch_cuts(group.replica.journal, ledger)
        if not ledger.opened(self.node, storage.log.read(1, _ALL, _ALL)):
            # What was written last can't be told from what was cut short: no log that ends with it can. Nothing in a server
            # notices, so it is the operator here who does.
            raise JournalDamaged(name, "its end is missing")
        self._opened(machine)
        return group

    def _watch_cuts(self, journal: Journal, ledger: Ledger) -> None:
        """What reaches the disk no longer tells for which leader it was cut: the node may be in a later term by then."""
        truncate = journal.truncate

        def tell(index: int) -> None:
            terms = journal.terms
            ledger.cuts(self.node, [(at, terms.at(at)) for at in range(index, terms.last + 1)], journal.term)
            truncate(index)

        journal.truncate = tell  # type: ignore[method-assign]
