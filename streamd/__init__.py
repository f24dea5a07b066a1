"""A streaming persistence server: core NATS, JetStream and NATS Streaming on one LMDB log.

    async with streamd.Server() as server:
        client = await nats.connect(server.client_url)

Names are loaded when they are first used, so that `streamd -v` doesn't wait for what it doesn't need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamd.config.models import Config as Config
    from streamd.config.models import JetStreamConfig as JetStreamConfig
    from streamd.config.streaming import StreamingConfig as StreamingConfig
    from streamd.server import Server as Server

__version__ = "0.1.0"
__all__ = ["Config", "JetStreamConfig", "Server", "StreamingConfig", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Server":
        from streamd.server import Server

        return Server
    if name in ("Config", "JetStreamConfig"):
        from streamd.config import models

        return getattr(models, name)
    if name == "StreamingConfig":
        from streamd.config.streaming import StreamingConfig

        return StreamingConfig
    raise AttributeError(f"module 'streamd' has no attribute {name!r}")
