"""The outer cluster block: NATS routes to other servers.

Names and defaults are nats-server's. Not here: peers of a Raft group, which streaming { cluster { } } names.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Final, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from streamd.config import reading
from streamd.config.block import SECOND_NS, Block, Nanoseconds, Port
from streamd.config.reading import Key

_SCHEMES: Final = ("nats-route", "nats")


def _route(text: str) -> str:
    try:
        url = urlsplit(text)
        if url.scheme not in _SCHEMES or not url.hostname or url.port is None or not url.port:
            raise ValueError
    except ValueError:
        shown = text.rpartition("@")[2]  # what stands before may be a password
        raise ValueError(f'"{shown}" is no route: expected nats-route://host:port') from None
    return text


def _pool_size(size: int) -> int:
    if size < -1:
        raise ValueError("input should be greater than or equal to -1")
    return size


Route = Annotated[str, AfterValidator(_route)]
Positive = Annotated[int, Field(ge=1)]


class ClusterAuthorization(Block):
    """What a server that dials must say: one user with a password. It is what this server says when it dials, too."""

    user: Annotated[str, Key("user", reading.string, ("username",))] = ""
    password: Annotated[str, Key("password", reading.string, ("pass",)), Field(repr=False)] = ""
    timeout_ns: Annotated[Nanoseconds, Key("timeout", reading.seconds)] = 2 * SECOND_NS

    @model_validator(mode="after")
    def _both(self) -> Self:
        if not self.user or not self.password:
            raise ValueError("needs a user and a password")
        return self


class ClusterTls(Block):
    """Both sides of every route show a certificate and check the other's, as nats-server has it.

    Shapes:  files are PEM; ca_file None: the system's authorities. `verify` is always on for routes and only accepted.
             `insecure`: what is dialed may be anybody.
    """

    cert_file: Annotated[str, Key("cert_file", reading.string)]
    key_file: Annotated[str, Key("key_file", reading.string)]
    ca_file: Annotated[str | None, Key("ca_file", reading.string)] = None
    verify: Annotated[bool, Key("verify", reading.boolean)] = True
    insecure: Annotated[bool, Key("insecure", reading.boolean)] = False
    timeout_ns: Annotated[Positive, Key("timeout", reading.seconds)] = 2 * SECOND_NS


class ClusterConfig(Block):
    """Where this server takes routes and whom it dials.

    Shapes:  port None opens no route port, -1 a free one; name "": one is made up that yields to a configured one.
             ping_interval_ns, ping_max and write_deadline_ns: None is as for clients.
    """

    name: Annotated[str, Key("name", reading.string)] = ""
    host: Annotated[str, Key("host", reading.string, ("net",))] = "0.0.0.0"
    port: Annotated[Port | None, Key("port", reading.integer)] = None
    routes: Annotated[tuple[Route, ...], Key("routes", reading.strings), Field(repr=False)] = ()
    advertise: Annotated[str, Key("cluster_advertise", reading.string, ("advertise",))] = ""
    no_advertise: Annotated[bool, Key("no_advertise", reading.boolean)] = False
    connect_retries: Annotated[int, Key("connect_retries", reading.integer), Field(ge=0)] = 0
    connect_backoff: Annotated[bool, Key("connect_backoff", reading.boolean)] = False
    # Accepted without effect between streamd servers: they hold two connections, and one to a nats-server.
    pool_size: Annotated[int, Key("pool_size", reading.integer), AfterValidator(_pool_size)] = 3
    ping_interval_ns: Annotated[Positive | None, Key("ping_interval", reading.duration_or_seconds)] = None
    ping_max: Annotated[Annotated[int, Field(ge=0)] | None, Key("ping_max", reading.integer)] = None
    write_deadline_ns: Annotated[Positive | None, Key("write_deadline", reading.duration_or_seconds)] = None
    authorization: ClusterAuthorization | None = None
    tls: ClusterTls | None = None

    @field_validator("name")
    @classmethod
    def _one_word(cls, name: str) -> str:
        if any(character.isspace() for character in name):
            raise ValueError("cluster name cannot contain spaces")
        return name

    @field_validator("advertise")
    @classmethod
    def _an_address(cls, advertise: str, info: ValidationInfo) -> str:
        if advertise:
            reading.host_port(advertise, "cluster_advertise")
        return advertise

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.routes and not self.port:
            raise ValueError("routes need a port of their own, too: set listen or port")
        return self


def listen_fields(text: str) -> dict[str, Any]:
    """What the flag --cluster says: `nats://user:password@host:port`, port -1 for a free one, "" for no cluster.

    Errors:  ValueError.
    """
    if not text:
        return {"port": None, "routes": ()}
    wants_any = text.endswith(":-1")
    try:
        url = urlsplit(f"{text[:-3]}:0" if wants_any else text)
        if not url.scheme or url.port is None:
            raise ValueError
    except ValueError:
        raise ValueError(f'"{text.rpartition("@")[2]}" is no address: expected nats://host:port') from None
    fields: dict[str, Any] = {"host": url.hostname or "0.0.0.0", "port": -1 if wants_any else url.port}
    if url.username is None:
        return {**fields, "authorization": None}
    if url.password is None:
        raise ValueError("expected cluster password to be set")
    return {**fields, "authorization": {"user": unquote(url.username), "password": unquote(url.password)}}


def is_address(host: str) -> bool:
    """Whether a host is an IP address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
