"""streamd with a `streaming {}` block in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamd import Server
from streamd.config.models import Config, JetStreamConfig
from streamd.config.streaming import StreamingConfig

if TYPE_CHECKING:
    from pathlib import Path


def serving(directory: Path, *, http_port: int | None = None, **streaming: Any) -> Server:
    """A server to start: one life on the store in a directory. `streaming`: fields of the block beside the store's."""
    streaming.setdefault("store", "file")
    block = StreamingConfig(dir=str(directory), **streaming)
    store = JetStreamConfig(store_dir=str(directory))
    return Server(Config(host="127.0.0.1", port=-1, http_port=http_port, jetstream=store, streaming=block))


def without(directory: Path) -> Server:
    """The same with JetStream alone."""
    return Server(Config(host="127.0.0.1", port=-1, jetstream=JetStreamConfig(store_dir=str(directory))))
