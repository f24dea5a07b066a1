"""Commits that a test holds, in front of the moment at which the server hears of their end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streamd.store.writer import Writer

if TYPE_CHECKING:
    import pytest


class Held:
    """Commits whose end nobody hears of until `let_go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._land = Writer._land
        self._landed: list[Writer] = []
        self._ended = asyncio.Event()
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(Writer, "_land", lambda writer: self._keep_quiet(writer))

    def _keep_quiet(self, writer: Writer) -> None:
        self._landed.append(writer)
        self._ended.set()

    async def one(self) -> None:
        """Wait for the first."""
        async with asyncio.timeout(10):
            await self._ended.wait()

    def let_go(self) -> None:
        self._monkeypatch.setattr(Writer, "_land", self._land)
        for writer in self._landed:
            self._land(writer)
