"""A network of three hosts on this machine: a namespace with an address of its own for each node, joined by a bridge that
the tests' clients reach as well; and links between two of them that can be cut, one way or both."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from benchmarks.trio import NAMES, Place, on_loopback

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

#: Names and addresses of this process alone: other runs on the machine have others.
SPACE: Final = f"sd{os.getpid()}"
NET: Final = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 256}"
SWITCH: Final = f"{SPACE}-switch"


def space_of(name: str) -> str:
    """The namespace of a node."""
    return f"{SPACE}-{name}"


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    """One command of iproute2."""
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


def done(*words: str) -> None:
    """One that has to succeed."""
    made = ip(*words)
    assert made.returncode == 0, f"ip {' '.join(words)}: {made.stderr}"


def unavailable() -> str:
    """Why there can be no namespaces here; empty where there can."""
    if shutil.which("ip") is None:
        return "there is no `ip` (iproute2) here"
    if os.geteuid():
        return "network namespaces are made by root"
    made = ip("netns", "add", SWITCH)
    ip("netns", "del", SWITCH)
    return f"no network namespace can be made here: {made.stderr.strip()}" if made.returncode else ""


class Links:
    """The namespaces, the bridge and what joins them; gone when the `with` ends."""

    def __init__(self) -> None:
        self.hosts = {name: f"{NET}.{number}" for number, name in enumerate(NAMES, 1)}
        self._cut: set[tuple[str, str]] = set()
        self._made = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # The bridge has a namespace of its own: what the machine's firewall says of bridges is not asked there.
            for space in (SWITCH, *map(space_of, self.hosts)):
                done("netns", "add", space)
                stack.callback(ip, "netns", "del", space)
                done("-n", space, "link", "set", "lo", "up")
            done("-n", SWITCH, "link", "add", "bridge", "type", "bridge")
            done("-n", SWITCH, "link", "set", "bridge", "up")
            for name, host in self.hosts.items():
                self._plug(name, "eth0", f"{host}/24", "-n", space_of(name))
            stack.callback(ip, "link", "del", SPACE)
            self._plug("host", SPACE, f"{NET}.254/24")
            self._made = stack.pop_all()
        return self

    def _plug(self, port: str, interface: str, address: str, *where: str) -> None:
        """A cable from an interface somewhere to a port of the bridge."""
        done(*where, "link", "add", "dev", interface, "type", "veth", "peer", "name", port, "netns", SWITCH)
        done("-n", SWITCH, "link", "set", "dev", port, "master", "bridge", "up")
        done(*where, "addr", "add", address, "dev", interface)
        done(*where, "link", "set", "dev", interface, "up")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._made.close()

    def places(self, home: Path) -> list[Place]:
        """A node on each host."""
        return [
            replace(place, host=self.hosts[place.name], prefix=("ip", "netns", "exec", space_of(place.name)))
            for place in on_loopback(home)
        ]

    def cut(self, sender: str, receiver: str) -> None:
        """From now on nothing that one host sends reaches the other; what comes back still does."""
        done("-n", space_of(sender), "route", "add", "blackhole", f"{self.hosts[receiver]}/32")
        self._cut.add((sender, receiver))

    def heal(self) -> None:
        """All links are there again."""
        for sender, receiver in self._cut:
            done("-n", space_of(sender), "route", "del", "blackhole", f"{self.hosts[receiver]}/32")
        self._cut.clear()
