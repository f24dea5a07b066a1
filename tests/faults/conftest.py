"""The Python client of NATS Streaming, for the tests that mix both protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stan import venv
from tests.stan.conftest import python

if TYPE_CHECKING:
    from tests.stan.program import Language


@pytest.fixture(scope="session")
def python_client() -> Language:
    """asyncio-nats-streaming, unmodified."""
    return python(venv.ready())
