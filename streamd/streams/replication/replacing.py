"""What a fetched state goes into here: the stream that its group has, or another one that takes its place, or that of a copy.

Guarantee:    what is replaced is served and changed no more from then on, and leaves the store in the commit that makes the
              other one whole. Until then a restart finds both, and goes on with the later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamd.streams.kept_pulls import LEADERSHIP_CHANGE
from streamd.streams.replication.bringing import lay_aside
from streamd.streams.shelf import Shelf
from streamd.streams.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.store import Work
    from streamd.streams.replication.node import Replication
    from streamd.streams.replication.replica import Replica

    Undo = list[Callable[[], None]]


class Replacing:
    """For all groups of this node. `undo` gets what is to be called, last one first, if the commit fails."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication

    def hidden(self, definition: dict[str, Any]) -> bool:
        """Whether what has the name of a stream here doesn't go for it: one is a channel's, the other is somebody's. The log
        says so."""
        if "service" in definition:
            return False
        name = definition["name"]
        before = self._replication.jetstream.streams.get(name)
        if before is None or before.alone or (before.channel is None) == (definition.get("channel") is None):
            return False
        self._replication.holding.name_taken(name)
        return True

    def stream(self, replica: Replica, uid: int, definition: dict[str, Any], undo: Undo) -> Stream:
        """The stream here, marked as one whose state comes; made anew if there is none or it is damaged."""
        streams, owner = self._replication.jetstream.streams, replica.owners.get(uid)
        if isinstance(owner, Stream) and owner.fetching:
            return owner
        if isinstance(owner, Stream) and owner.offline is None:
            owner.await_state()

            def put_back(stream: Stream = owner) -> None:
                stream.state_came()
                stream.put_back()

            undo.append(put_back)
            return owner
        stream = self._replication.holding.new_stream(uid, definition)
        before = streams.get(stream.name)
        if before is not None and before.alone:
            lay_aside(self._replication.jetstream, before, "name")
            before = None
        elif before is not None and before.uid != uid and before.replica is not replica:
            # It was removed, which this server or that group has yet to hear. One of this group goes with the state.
            self._replication.assigned.remove(before)
            before = None
        # One that is damaged, or a copy that has yet to be adopted.
        twins = [each for each in (owner, before) if isinstance(each, Stream) and each.uid == uid]
        for twin in dict.fromkeys(twins):
            stream.replaces += [number for number in (*twin.replaces, twin.stream_id) if number]
            self._detach(replica, twin, undo)
        streams[stream.name] = stream
        replica.adopt(stream)
        stream.await_state()

        def take_back() -> None:
            if before is None:
                del streams[stream.name]
            else:
                streams[stream.name] = before
            if owner is None:
                del replica.owners[uid]
            else:
                replica.owners[uid] = owner

        undo.append(take_back)
        return stream

    def _detach(self, replica: Replica, twin: Stream, undo: Undo) -> None:
        """Let nothing happen to a stream any more that another one takes the place of."""
        twin.direct.close()
        twin.pulls.end(LEADERSHIP_CHANGE)
        undo.append(twin.stand_by)
        if twin.frozen:
            self._replication.mover.lay_aside(twin)
        group = twin.replica
        if group is not None and group is not replica:
            # The group that it leaves, of whose log this server has yet to hear that.
            group.lead.gone(twin)
            group.owners.pop(twin.uid, None)

            def back() -> None:
                group.owners[twin.uid] = twin
                group.lead.opened(twin)

            undo.append(back)

    def shelf(self, replica: Replica, work: Work, uid: int, definition: dict[str, Any], undo: Undo) -> Shelf:
        """The shelf here; made anew if there is none or it is damaged."""
        owner = replica.owners.get(uid)
        if not isinstance(owner, Shelf):
            damaged, streams = owner, self._replication.jetstream.streams
            owner = self._replication.holding.new_shelf(uid, definition)
            replica.adopt(owner)
            if damaged is None:
                undo.append(lambda: _forget(replica, uid))
            else:
                # It can't be told from a stream, and is taken for one that is offline.
                damaged.part(work).drop = True
                del streams[damaged.name]
                undo.append(lambda: replica.adopt(damaged))
                undo.append(lambda: streams.update({damaged.name: damaged}))
        owner.about = {name: value for name, value in definition.items() if name not in ("name", "service")}
        owner.part(work).definition = owner.definition()
        return owner


def _forget(replica: Replica, uid: int) -> None:
    del replica.owners[uid]
