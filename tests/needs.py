"""What a machine must offer for some tests: without it they are skipped, and under `make soak` they fail as not run."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def not_run(reason: str) -> NoReturn:
    """End a test that can't run here."""
    if os.environ.get("STREAMD_SOAK"):
        pytest.fail(f"not run: {reason}", pytrace=False)
    pytest.skip(reason)
