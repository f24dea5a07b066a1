"""What a process writes into its log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamd.cli.logging import Log

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("debug", "stan_debug", "written"),
    [
        (False, False, []),
        (False, True, ["STREAM: [Client:a] Connected"]),
        (True, False, ["cid:1 - closed", "STREAM: [Client:a] Connected"]),
    ],
)
def test_steps_are_logged_of_all_or_of_nats_streaming_alone(
    debug: bool, stan_debug: bool, written: list[str], tmp_path: Path
) -> None:
    log = Log(str(tmp_path / "log"), debug=debug, stan_debug=stan_debug, logtime=False)
    log.logger.debug("cid:%d - closed", 1)
    log.logger.debug("STREAM: [Client:%s] Connected", "a")
    log.close()

    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.partition("[DBG] ")[2] for line in lines] == written
