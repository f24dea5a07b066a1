"""Clusters of servers in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.replication.nodes import Nodes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """A whole module may share a cluster, and with it the loop."""
    return "asyncio"


@pytest.fixture(scope="module")
async def shared(anyio_backend: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Nodes]:
    """Three servers that the tests of a module share: each test has streams of its own."""
    async with Nodes(tmp_path_factory.mktemp("shared"), "abc") as nodes:
        yield nodes


@pytest.fixture
async def trio(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Nodes]:
    """Three servers of the test's own."""
    async with Nodes(tmp_path, "abc") as nodes:
        yield nodes
