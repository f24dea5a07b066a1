"""Of which term the leader is that serves the consumer, and what it sends: clients can't see that.

Guarantee:  the server does exactly what it would do without; the history hears of it first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streamd.streams.consumer import Consumer

if TYPE_CHECKING:
    from streamd._engine import AckOutcome
    from streamd.sim.clock import Time
    from streamd.sim.history import History
    from streamd.streams.reader import Saved
    from streamd.streams.replication.replica import Replica

_ALL: Final = 1 << 20


def watch(replica: Replica, history: History, time: Time) -> None:
    """Tell of what a replica does while it leads: it has states saved after what it sent, and acks confirmed."""
    proposals = replica.proposals
    save, confirm = proposals.save, proposals.confirm

    def tell(saved: Saved) -> None:
        if isinstance(saved, Consumer):
            now_ns = replica.services.clock.now_ns()
            sent = [sequence for sequence, _, sent_ns, _ in saved.state.pending_list(_ALL) if sent_ns == now_ns]
            # The group may have heard of a later term, and what serves here be about to end: it is still of its own.
            history.served(replica.group.led_term, sent, time.now_ns)

    def told_save(saved: Saved) -> None:
        tell(saved)
        save(saved)

    def told_confirm(consumer: Consumer, outcome: AckOutcome) -> None:
        tell(consumer)
        confirm(consumer, outcome)

    proposals.save = told_save  # type: ignore[method-assign]
    proposals.confirm = told_confirm  # type: ignore[method-assign]
