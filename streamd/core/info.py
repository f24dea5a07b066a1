"""What the server says of itself (INFO) and what a client says of itself (CONNECT).

Source: the NATS client protocol, INFO and CONNECT.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, StrictBool, StrictInt, StrictStr

from streamd.tokens import token

#: The nats-server release whose protocol is matched; clients gate features on it.
PROTOCOL_VERSION: Final = "2.15.2"
_BASE32: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def new_server_id() -> str:
    """A random id in the form of a server's public key: N and 55 characters of base 32."""
    return "N" + token(55, _BASE32)


class Connect(BaseModel):
    """The fields of CONNECT that matter here; others are allowed and left alone. Absent ones take the server's defaults."""

    model_config = ConfigDict(extra="ignore", defer_build=True)

    verbose: StrictBool = True
    pedantic: StrictBool = True
    tls_required: StrictBool = False
    auth_token: StrictStr = ""
    user: StrictStr = ""
    password: StrictStr = ""
    name: StrictStr = ""
    lang: StrictStr = ""
    version: StrictStr = ""
    protocol: StrictInt = 0
    echo: StrictBool = True
    headers: StrictBool = False
    no_responders: StrictBool = False
    account: StrictStr = ""
    new_account: StrictBool = False

    def updated(self, text: bytes) -> Connect:
        """With the fields of a CONNECT; those it doesn't name stay as they were.

        Errors: ValueError for anything that is not null or a JSON object with fields of the right types.
        """
        try:
            fields = json.loads(text)
        except RecursionError as error:
            raise ValueError("CONNECT is nested too deeply") from error
        if fields is None:
            fields = {}
        if not isinstance(fields, dict):
            raise ValueError("CONNECT needs a JSON object")
        if "pass" in fields:
            fields["password"] = fields.pop("pass")
        # A null stands for an absent field in the encoders of several clients.
        given = {key: value for key, value in fields.items() if value is not None}
        return Connect.model_validate({**self.model_dump(exclude_unset=True), **given})


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same in every INFO of a server."""

    server_id: str
    server_name: str
    version: str
    host: str
    port: int
    max_payload_bytes: int
    headers: bool
    auth_required: bool
    jetstream: bool
    cluster: str = ""
    connect_urls: tuple[str, ...] = ()  # of all servers of the cluster, the own ones first

    def line(self, client_id: int, client_ip: str, **more: Any) -> bytes:
        """One INFO line for one client. `more`: fields of a later INFO, such as connect_info."""
        fields: dict[str, Any] = {
            "server_id": self.server_id,
            "server_name": self.server_name,
            "version": PROTOCOL_VERSION,
            "streamd": self.version,
            "proto": 1,
            "go": "",
            "host": self.host,
            "port": self.port,
            "headers": self.headers,
        }
        if self.auth_required:
            fields["auth_required"] = True
        fields["max_payload"] = self.max_payload_bytes
        if self.jetstream:
            fields["jetstream"] = True
        fields["client_id"] = client_id
        fields["client_ip"] = client_ip
        if self.cluster:
            fields["cluster"] = self.cluster
        if self.connect_urls:
            fields["connect_urls"] = self.connect_urls
        fields.update(more)
        return b"INFO " + json.dumps(fields, separators=(",", ":")).encode() + b" \r\n"
