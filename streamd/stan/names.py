"""Names: of a channel's stream, of the service's subjects, of inboxes. The mapping is documented in docs/nats-streaming.md.

Source: the subjects of NATS Streaming's protocol 1, which permissions in the field name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from streamd._engine import subject_valid
from streamd.streams.stream import CHANNELS_PREFIX

#: Longest name of a stream, in bytes.
STREAM_NAME_BYTES_MAX: Final = 255
_CLIENT_ID: Final = re.compile(r"[a-zA-Z0-9_-]+", re.ASCII)
_PLAIN: Final = re.compile(rb"[A-Za-z0-9_-]")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPE: Final = re.compile(rb"\\x([89a-f][0-9a-f])")
#: No client can listen on a longer subject.
_INBOX_BYTES_MAX: Final = 4096
#: Subjects that are answered by services: what is sent there would be taken for a request.
_SERVICES: Final = ("$", "_STAN.")


def stream_name(channel: str) -> str:
    """The name of a channel's stream: `STAN_` and the channel, other bytes than letters, digits, `_` and `-` as `=XX`."""
    return "STAN_" + "".join(
        chr(byte) if _PLAIN.match(bytes([byte])) else f"={byte:02X}"
        for byte in channel.encode("utf-8", "surrogateescape")
    )


def text(name: bytes) -> str:
    """What a client wrote; bytes that aren't UTF-8 as surrogates, as file names have them."""
    return name.decode("utf-8", "surrogateescape")


def readable(name: str) -> str:
    """A name in which everything is UTF-8: other bytes become `\\xXX`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def unreadable(name: str) -> str:
    """The name whose readable form this is."""
    return text(_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode("utf-8", "surrogateescape")))


def shown(name: str) -> str:
    """A name as a line of the log has it: readable, and without ends of lines."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", readable(name))


def inbox_usable(inbox: str) -> bool:
    """Whether anything may be sent there. Clients are free to name other inboxes, where nobody hears anything then.

    What isn't a subject would tear the lines of whoever listens to all; a service would take it for a request of ours.
    """
    return len(inbox) <= _INBOX_BYTES_MAX and not inbox.startswith(_SERVICES) and subject_valid(inbox, wildcards=True)


def client_id_valid(client_id: str) -> bool:
    """Whether a client may call itself so."""
    return _CLIENT_ID.fullmatch(client_id) is not None


@dataclass(frozen=True, slots=True)
class Subjects:
    """What a cluster id's service listens on."""

    cluster_id: str
    discover_prefix: str

    @property
    def connect(self) -> str:
        return f"{self.discover_prefix}.{self.cluster_id}"

    @property
    def pings(self) -> str:
        return f"{self.connect}.pings"

    @property
    def publish(self) -> str:
        """Prefix of channels."""
        return f"_STAN.pub.{self.cluster_id}"

    @property
    def subscribe(self) -> str:
        return f"_STAN.sub.{self.cluster_id}"

    @property
    def unsubscribe(self) -> str:
        return f"_STAN.unsub.{self.cluster_id}"

    @property
    def close_subscription(self) -> str:
        return f"_STAN.subclose.{self.cluster_id}"

    @property
    def close(self) -> str:
        return f"_STAN.close.{self.cluster_id}"

    @property
    def stored(self) -> str:
        """Prefix of the subjects of channels' streams, dot included."""
        return f"{CHANNELS_PREFIX}{self.cluster_id}."
