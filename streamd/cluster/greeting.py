"""What servers say of themselves on a route: INFO and CONNECT.

Our own fields, which a nats-server passes over, start with `streamd`. Without `route_pool_size` in our INFO a nats-server
takes us for one that knows a single route and no dedicated ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, StrictBool, StrictInt, StrictStr

from streamd.core.info import PROTOCOL_VERSION

#: Queue weights are understood, traces aren't.
ROUTE_PROTOCOL: Final = 2
GOSSIP_DISABLED: Final = 1


class _Said(BaseModel):
    """What another server said; unknown fields are left alone, a null is an absent field."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)

    @classmethod
    def fields(cls, text: bytes) -> dict[str, Any]:
        """Errors: ValueError if it is no JSON object, or has text that is no Unicode."""
        try:
            found = json.loads(text)
            # JSON may name half a surrogate pair, which can't be sent, logged or looked up. The error is a ValueError.
            json.dumps(found, ensure_ascii=False).encode()
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(found, dict):
            raise ValueError("expected a JSON object")
        return {name: value for name, value in found.items() if value is not None}


class Info(_Said):
    """INFO of a server on a route, about itself or, passed on, about another one.

    Shapes:  ip: the URL of its route port, where it is known; streamd_routes: ids of the servers it is connected to.
             streamd_carries: this connection carries from now on, as the one server says that chooses.
    """

    server_id: StrictStr
    server_name: StrictStr = ""
    host: StrictStr = ""
    port: StrictInt = 0
    ip: StrictStr = ""
    cluster: StrictStr = ""
    cluster_dynamic: StrictBool = False
    auth_required: StrictBool = False
    connect_urls: tuple[StrictStr, ...] = ()
    gossip_mode: StrictInt = 0
    ldm: StrictBool = False
    streamd: StrictStr = ""
    streamd_node: StrictStr = ""
    streamd_lane: StrictBool = False
    streamd_carries: StrictBool = False
    streamd_routes: tuple[StrictStr, ...] = ()

    @classmethod
    def read(cls, text: bytes) -> Info:
        """Errors: ValueError for anything that is no INFO."""
        return cls.model_validate(cls.fields(text))


class RouteConnect(_Said):
    """CONNECT of a server that dialed. Shapes: `name` is its id; `lang` is what clients say, and servers don't."""

    name: StrictStr = ""
    user: StrictStr = ""
    password: StrictStr = ""
    cluster: StrictStr = ""
    cluster_dynamic: StrictBool = False
    lang: StrictStr = ""
    gateway: StrictStr = ""

    @classmethod
    def read(cls, text: bytes) -> RouteConnect:
        """Errors: ValueError for anything that is no CONNECT."""
        fields = cls.fields(text)
        fields["password"] = fields.pop("pass", "")
        return cls.model_validate(fields)


@dataclass(frozen=True, slots=True)
class Myself:
    """What this server says on every route."""

    server_id: str
    server_name: str
    version: str
    node: str
    host: str
    port: int
    url: str  # the route URL others are to dial, "" if they see the address themselves
    cluster: str
    dynamic: bool
    auth_required: bool
    tls_required: bool
    max_payload_bytes: int
    headers: bool
    connect_urls: tuple[str, ...]
    routes: tuple[str, ...] = ()

    def info(self, *, lane: bool, carries: bool = False) -> bytes:
        """The INFO line."""
        fields: dict[str, Any] = {
            "server_id": self.server_id,
            "server_name": self.server_name,
            "version": PROTOCOL_VERSION,
            "proto": ROUTE_PROTOCOL,
            "go": "",
            "host": self.host,
            "port": self.port,
            "headers": self.headers,
            "max_payload": self.max_payload_bytes,
            "cluster": self.cluster,
            "lnoc": True,
            "lnocu": True,
            "streamd": self.version,
        }
        optional = {
            "auth_required": self.auth_required,
            "tls_required": self.tls_required,
            "tls_verify": self.tls_required,
            "cluster_dynamic": self.dynamic,
            "ip": self.url,
            "connect_urls": self.connect_urls,
            "streamd_node": self.node,
            "streamd_lane": lane,
            "streamd_carries": carries,
            "streamd_routes": self.routes,
        }
        fields |= {name: value for name, value in optional.items() if value}
        return _line(b"INFO ", fields)

    def connect(self, user: str, password: str) -> bytes:
        """The CONNECT line of a dialer."""
        fields = {
            "echo": True,
            "verbose": False,
            "pedantic": False,
            "user": user,
            "pass": password,
            "tls_required": self.tls_required,
            "name": self.server_id,
            "headers": self.headers,
            "cluster": self.cluster,
            "cluster_dynamic": self.dynamic,
            "lnoc": True,
            "lnocu": True,
        }
        return _line(b"CONNECT ", fields)


def passed_on(text: bytes, url: str) -> bytes:
    """The INFO line that tells others of a newcomer: its own INFO with the URL it can be dialed at."""
    fields = _Said.fields(text)
    for name in ("nonce", "gossip_mode", "route_pool_idx", "route_account"):
        fields.pop(name, None)
    return _line(b"INFO ", {**fields, "ip": url})


def _line(keyword: bytes, fields: dict[str, Any]) -> bytes:
    return keyword + json.dumps(fields, separators=(",", ":")).encode() + b" \r\n"
