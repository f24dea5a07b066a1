"""$JS.API.INFO on the wire.

Source: nats-server 2.15.2.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from streamd.api.answer import Answer
from streamd.api.metadata import API_LEVEL
from streamd.api.wire import ALWAYS, Wire


class AccountLimits(Wire):
    """What an account may use; -1 is no limit."""

    max_memory: Annotated[int, ALWAYS] = -1
    max_storage: Annotated[int, ALWAYS] = -1
    max_streams: Annotated[int, ALWAYS] = -1
    max_consumers: Annotated[int, ALWAYS] = -1
    max_ack_pending: Annotated[int, ALWAYS] = -1
    memory_max_stream_bytes: Annotated[int, ALWAYS] = -1
    storage_max_stream_bytes: Annotated[int, ALWAYS] = -1
    max_bytes_required: Annotated[bool, ALWAYS] = False


class ApiStats(Wire):
    """Requests answered and failed so far."""

    level: Annotated[int, ALWAYS] = API_LEVEL
    total: Annotated[int, ALWAYS] = 0
    errors: Annotated[int, ALWAYS] = 0
    inflight: int = 0


class AccountUsage(Wire):
    """What an account uses."""

    memory: Annotated[int, ALWAYS] = 0
    storage: Annotated[int, ALWAYS] = 0
    reserved_memory: Annotated[int, ALWAYS] = 0
    reserved_storage: Annotated[int, ALWAYS] = 0
    streams: Annotated[int, ALWAYS] = 0
    consumers: Annotated[int, ALWAYS] = 0
    limits: Annotated[AccountLimits, ALWAYS] = Field(default_factory=AccountLimits)


class AccountInfoResponse(Answer, AccountUsage):
    """$JS.API.INFO."""

    kind: ClassVar[str] = "account_info_response"

    domain: str = ""
    api: Annotated[ApiStats, ALWAYS] = Field(default_factory=ApiStats)


class SystemResponse(Answer):
    """What the system account is told about streams, whatever it asked."""

    kind: ClassVar[str] = "system_response"
