"""Where clients find this server, as it tells them and other servers, and what is an address of it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from typing import Final

_WILDCARDS: Final = ("", "0.0.0.0", "::")
_SIOCGIFADDR: Final = 0x8915


def client_urls(host: str, port: int) -> tuple[str, ...]:
    """`host:port`, or, for a server that listens everywhere, one of each address that isn't a loopback's.

    Shapes:  IPv6 addresses in brackets; never empty.
    """
    if host not in _WILDCARDS:
        return (_url(host, port),)
    return tuple(_url(address, port) for address in _addresses()) or (_url("127.0.0.1", port),)


def is_local(address: str) -> bool:
    """Whether an address is one of this machine."""
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return True
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.connect((address, 9))  # sends nothing; only to itself does the system go from there
        return bool(asking.getsockname()[0] == address)
    return False


def _url(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _addresses() -> list[str]:
    """Of this machine, without loopback. A server that listens everywhere listens on IPv4."""
    found: list[str] = []
    try:
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            for _, name in socket.if_nameindex():
                with contextlib.suppress(OSError):  # an interface without an address
                    request = struct.pack("256s", name.encode()[:15])
                    answer = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, request)
                    found.append(socket.inet_ntoa(answer[20:24]))
    except OSError:
        found = []
    if not found:
        # Elsewhere than on Linux the request has another number; the resolver knows most of it.
        with contextlib.suppress(OSError):
            found = [str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    return [one for one in dict.fromkeys(found) if not ipaddress.ip_address(one).is_loopback]
