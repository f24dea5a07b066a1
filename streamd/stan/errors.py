"""The texts of NATS Streaming's refusals: clients and operators match on them.

Source: nats-streaming-server 0.25.6, whose spelling these are.
"""

from __future__ import annotations

from typing import Final

BAD_CONNECT: Final = "stan: invalid connection request"
BAD_CLIENT_ID: Final = "stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed"
CLIENT_TAKEN: Final = "stan: clientID already registered"
CLIENT_UNKNOWN: Final = "stan: unknown clientID"
CLIENT_REPLACED: Final = "client has been replaced or is no longer registered"
BAD_CLOSE: Final = "stan: invalid close request"

BAD_SUBSCRIPTION: Final = "stan: invalid subscription request"
NO_CLIENT_ID: Final = "stan: clientID missing"
BAD_ACK_WAIT: Final = "stan: invalid ack wait time, should be >= 1s"
BAD_MAX_IN_FLIGHT: Final = "stan: invalid MaxInflight, should be >= 1"
BAD_START: Final = "stan: invalid start position"
BAD_SUBJECT: Final = "stan: invalid subject"
BAD_DURABLE_NAME: Final = "stan: durable name of a durable queue subscriber can't contain the character ':'"
DURABLE_TAKEN: Final = "stan: duplicate durable registration"
SUBSCRIPTIONS_MAX: Final = "too many subscriptions per channel"

BAD_UNSUBSCRIBE: Final = "stan: invalid unsubscribe request"
SUBSCRIPTION_UNKNOWN: Final = "stan: invalid subscription"
CHANNEL_UNKNOWN: Final = "stan: unknown channel"

CHANNELS_MAX: Final = "too many channels"
#: Not one of the original, whose channels hear nothing but its own publishes.
BAD_INBOX: Final = "stan: the inbox is the channel itself: its messages would come back to it for ever"


def channel_case(name: str, existing: str) -> str:
    """Another spelling of the name is in use."""
    return f'rejecting channel "{name}" because channel "{existing}" alreay exists (different cases not allowed)'


class Refused(Exception):
    """A request can't be served; the text goes to the client."""
