"""A call in a child process: what comes back, and what stays there."""

from __future__ import annotations

import os
import sys

import pytest

from streamd.cli.apart import apart
from streamd.config.errors import ConfigError

CALLED: list[int] = []


def test_value_comes_back_and_all_else_stays_behind() -> None:
    def call() -> int:
        CALLED.append(1)
        return os.getpid()

    beside: list[int] = []
    child = apart(call, lambda: beside.append(os.getpid()))

    assert child != os.getpid()
    assert beside == [os.getpid()]
    assert CALLED == []


def test_what_is_wrong_with_a_configuration_comes_back() -> None:
    def call() -> None:
        raise ConfigError("port: no such port")

    with pytest.raises(ConfigError, match=r"^port: no such port$"):
        apart(call, lambda: None)


def test_child_that_dies_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    def call() -> None:
        sys.stderr = sys.__stderr__
        raise KeyError("surprise")

    with pytest.raises(ConfigError, match="the process that reads it has failed"):
        apart(call, lambda: None)
    assert "KeyError: 'surprise'" in capfd.readouterr().err
