"""The outer cluster block: NATS routes to other servers. Read only beside a streaming block, for now.

Guarantee: nothing of it is served yet, and Config.notes says so.
"""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from streamd.config import reading
from streamd.config.block import Block, Port
from streamd.config.reading import Key

_SCHEMES: Final = ("nats-route", "nats")


def _route(text: str) -> str:
    try:
        url = urlsplit(text)
        if url.scheme not in _SCHEMES or not url.hostname or url.port is None:
            raise ValueError
    except ValueError:
        shown = text.rpartition("@")[2]  # what stands before may be a password
        raise ValueError(f'"{shown}" is no route: expected nats-route://host:port') from None
    return text


Route = Annotated[str, AfterValidator(_route)]


class ClusterConfig(Block):
    """Where this server takes routes and whom it dials. Shapes: port None opens no route port."""

    name: Annotated[str, Key("name", reading.string)] = ""
    host: Annotated[str, Key("host", reading.string, ("net",))] = "0.0.0.0"
    port: Annotated[Port | None, Key("port", reading.integer)] = None
    routes: Annotated[tuple[Route, ...], Key("routes", reading.strings), Field(repr=False)] = ()
    advertise: Annotated[str, Key("cluster_advertise", reading.string, ("advertise",))] = ""
    no_advertise: Annotated[bool, Key("no_advertise", reading.boolean)] = False
    connect_retries: Annotated[int, Key("connect_retries", reading.integer), Field(ge=0)] = 0
    connect_backoff: Annotated[bool, Key("connect_backoff", reading.boolean)] = False
    pool_size: Annotated[int, Key("pool_size", reading.integer), Field(ge=-1)] = 3
