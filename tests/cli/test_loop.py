"""The selector that looks again before it sleeps: when it does, and that an idle server doesn't."""

from __future__ import annotations

import selectors
import socket
from typing import TYPE_CHECKING

import pytest

from streamd.cli.loop import LOOK_SECONDS, EagerSelector

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT, LONG = LOOK_SECONDS / 4, LOOK_SECONDS * 4


class World:
    """A clock of its own, one socket that becomes readable when the world says so, and what the selector did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.ready_at = 0.0
        self.looks = 0
        self.sleeps = 0
        base = selectors.DefaultSelector.select
        ours, theirs = socket.socketpair()
        self.sockets = ours, theirs

        def select(
            selector: selectors.DefaultSelector, timeout: float | None = None
        ) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout == 0:
                self.looks += 1
                self.now += LOOK_SECONDS / 100
            elif timeout is None or self.now + timeout >= self.ready_at:
                self.sleeps += 1
                self.now = max(self.now, self.ready_at)
            else:
                self.sleeps += 1
                self.now += timeout
            if self.now >= self.ready_at:
                theirs.send(b"x")
            found = base(selector, 0)
            if found:
                ours.recv(16)
            return found

        monkeypatch.setattr(selectors.DefaultSelector, "select", select)
        self.selector = EagerSelector(lambda: self.now)
        self.selector.register(ours, selectors.EVENT_READ)

    def wait(self, seconds: float, timeout: float | None = None) -> bool:
        """Something comes so much later. Returns whether the selector slept until then."""
        self.ready_at = self.now + seconds
        sleeps = self.sleeps
        assert bool(self.selector.select(timeout)) == (timeout is None or timeout >= seconds)
        return self.sleeps > sleeps

    def close(self) -> None:
        self.selector.close()
        for end in self.sockets:
            end.close()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(monkeypatch)
    yield made
    made.close()


def test_learns_that_waits_are_short(world: World) -> None:
    """A client that waits for each answer is found without a sleep."""
    assert [world.wait(SHORT) for _ in range(6)] == [True, True, True, False, False, False]


def test_tells_the_disk_from_the_client(world: World) -> None:
    """Long and short in turn: it sleeps while the disk works, and only then."""
    slept = [(world.wait(LONG), world.wait(SHORT)) for _ in range(6)]
    assert slept[3:] == [(True, False)] * 3


def test_idle_it_sleeps(world: World) -> None:
    """After a burst it looks again a few times in vain, then never."""
    for _ in range(10):
        world.wait(SHORT)
    for _ in range(3):
        world.wait(LONG)
    looks = world.looks
    for _ in range(10):
        assert world.wait(LONG)
    assert world.looks == looks


def test_what_is_ready_is_no_wait(world: World) -> None:
    """Nor does it cost a second look; and what must not wait costs one."""
    for _ in range(10):
        world.wait(0.0)
    assert (world.looks, world.sleeps) == (0, 10)
    assert world.wait(SHORT)  # nothing was learnt
    assert not world.wait(SHORT, 0)
    assert (world.looks, world.sleeps) == (1, 11)
