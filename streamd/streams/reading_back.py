"""A stream's machine as the store has it, after a commit of its changes failed; and what the store can't say of a part."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from streamd.store import StreamLog, recover_stream, restore_state
from streamd.streams.definitions import fixed_options, stream_options

if TYPE_CHECKING:
    from streamd._engine import StreamState
    from streamd.store import Environment, StoredStream, Writer
    from streamd.streams.stream import Stream


def read_back(environment: Environment, writer: Writer, stream: Stream) -> StreamState:
    """The machine again. Errors: StoreError."""
    stored = recover_stream(environment, stream.stream_id)
    if stored is None:
        # That commit was to make the stream: there is nothing to go back to, and who asked for it is told.
        return stream.state
    stored.follow(writer.journaled)
    explain_gaps(stored)
    log = stream.log
    assert isinstance(log, StreamLog)
    options = stream_options(stream.config, stream.channel) | fixed_options(stream.config, stream.channel)
    state = restore_state(environment, stored, log, **options)
    stream.ids_found(len(stored.ids), state.last_ts_ns)
    return state


def explain_gaps(stored: StoredStream) -> None:
    """Of a stream whose rest is still to come records came without word of what was deleted between them: there is nothing yet
    that they must come to. The index that comes with the last of them tells."""
    definition = json.loads(stored.definition or b"{}")
    if definition.get("partial") or definition.get("fetching"):
        stored.totals = None
