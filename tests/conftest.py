"""Shared by all tests."""

from __future__ import annotations

import importlib.util
import sys

if (
    importlib.util.find_spec("streamd._engine") is None
):  # rules can be tested before the native engine is built
    from tests.plain_subjects import module

    sys.modules["streamd._engine"] = module()
