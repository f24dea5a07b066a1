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

#: A net that is unlikely to be anybody's, and never leaves this machine.
NET: Final = "10.213.77"
BRIDGE: Final = "sd-chaos"


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
    made = ip("netns", "add", "sd-probe")
    ip("netns", "del", "sd-probe")
    return f"no network namespace can be made here: {made.stderr.strip()}" if made.returncode else ""


class Links:
    """The namespaces, the bridge and what joins them; gone when the `with` ends."""

    def __init__(self) -> None:
        self.hosts = {name: f"{NET}.{number}" for number, name in enumerate(NAMES, 1)}
        self._cut: set[tuple[str, str]] = set()
        self._made = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            done("link", "add", BRIDGE, "type", "bridge")
            stack.callback(ip, "link", "del", BRIDGE)
            done("addr", "add", f"{NET}.254/24", "dev", BRIDGE)
            done("link", "set", BRIDGE, "up")
            for name, host in self.hosts.items():
                space, outside = f"sd-{name}", f"sd-{name}-out"
                done("netns", "add", space)
                stack.callback(ip, "netns", "del", space)
                done("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", space)
                stack.callback(ip, "link", "del", outside)
                done("link", "set", outside, "master", BRIDGE, "up")
                for inside in (("addr", "add", f"{host}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
                    done("-n", space, *inside)
                done("-n", space, "link", "set", "lo", "up")
            self._made = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._made.close()

    def places(self, home: Path) -> list[Place]:
        """A node on each host."""
        return [
            replace(place, host=self.hosts[place.name], prefix=("ip", "netns", "exec", f"sd-{place.name}"))
            for place in on_loopback(home)
        ]

    def cut(self, sender: str, receiver: str) -> None:
        """From now on nothing that one host sends reaches the other; what comes back still does."""
        done("-n", f"sd-{sender}", "route", "add", "blackhole", f"{self.hosts[receiver]}/32")
        self._cut.add((sender, receiver))

    def heal(self) -> None:
        """All links are there again."""
        for sender, receiver in self._cut:
            done("-n", f"sd-{sender}", "route", "del", "blackhole", f"{self.hosts[receiver]}/32")
        self._cut.clear()
