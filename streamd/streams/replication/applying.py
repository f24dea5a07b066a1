"""What operations of an entry do to a stream or shelf of this server, in the commit that stores it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd._engine import Batch, CorruptRecord
from streamd.streams.replication import ops

if TYPE_CHECKING:
    from streamd._engine import Admission
    from streamd.store import Work
    from streamd.streams.replication.lately import Lately
    from streamd.streams.replication.ops import Op
    from streamd.streams.shelf import Shelf
    from streamd.streams.stream import Stream


def change_rows(work: Work, owner: Stream | Shelf, op: Op) -> None:
    """Put a row or its state, or take it away."""
    if op.kind == ops.ROW:
        number, definition, state = ops.row_of(op.body)
        owner.rows[number] = (definition, state)
        owner.part(work).put_row(number, definition, state)
    elif op.kind == ops.STATE:
        number, value = ops.state_of(op.body)
        row = owner.rows.get(number)
        if row is not None:
            owner.rows[number] = (row[0], value)
            owner.part(work).consumer_states[number] = value
    elif op.kind == ops.DROP_ROW:
        number = ops.number_of(op.body)
        owner.rows.pop(number, None)
        owner.part(work).drop_row(number)


def publish(work: Work, now_ns: int, stream: Stream, op: Op, batch: Batch | None, lately: Lately) -> Admission | None:
    """Admit a batch, which is the operation's if it is still there; None if something that it depends on can't be read."""
    commits = stream.services.commits
    try:
        if batch is None:
            batch = Batch.decode(op.body)
            lately.add(stream.uid, batch)
        return commits.admit(work, stream, batch, now_ns, promised=True)
    except CorruptRecord as error:
        commits.unreadable(stream, error)
        return None
