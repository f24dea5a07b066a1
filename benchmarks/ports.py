"""Ports for servers that must know each other's before they listen, or listen on the same one again.

Guarantee:  nobody listens there now, and the system gives none of them to an outgoing connection: such a connection could take
            the port of a server that isn't up yet, or not any more. A process gets each of them once, and processes that share
            out one run of tests none of the others'.
"""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path
from typing import Final

_OUTGOING: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Below lie those of well-known services.
_FIRST: Final = 10_000
_LAST: Final = 65_535
TRIES: Final = 1_000
_given: set[int] = set()


def _range() -> range:
    """The bigger of what lies below the ports of outgoing connections and what lies above."""
    try:
        low, high = map(int, _OUTGOING.read_text().split())
    except OSError:
        low, high = 49_152, _LAST  # as IANA has them
    return max(range(_FIRST, low), range(high + 1, _LAST + 1), key=len)


def _own() -> range:
    """The share of this process, where tests run in several (names of pytest-xdist)."""
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    return _range()[int(worker.removeprefix("gw")) :: int(workers)]


def free_port() -> int:
    """One port."""
    for port in random.SystemRandom().sample(_own(), TRIES):
        if port in _given:
            continue
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise OSError("no port was found outside of those that outgoing connections use")


def free_ports(count: int) -> list[int]:
    """So many."""
    return [free_port() for _ in range(count)]
