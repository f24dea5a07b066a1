"""Every row of the error table has its text proven: by a recording, or here by value."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from streamd.api import errors
from streamd.api.errors import ROWS, ApiError

RECORDED: dict[int, set[tuple[int, str]]] = {}
for file in sorted((Path(__file__).parent / "golden").glob("*.json")):
    for _, _, text in json.loads(file.read_text()):
        if text.startswith("{") and "error" in json.loads(text):
            one = json.loads(text)["error"]
            RECORDED.setdefault(one["err_code"], set()).add((one["code"], one["description"]))

# Not met by the recorded requests: what a small server that isn't clustered can't be brought to say.
STATED: dict[int, ApiError] = {
    10002: ApiError(400, 10002, "resource limits exceeded for account"),
    10004: ApiError(503, 10004, "incomplete results"),
    10005: ApiError(400, 10005, "{err}"),
    10006: ApiError(500, 10006, "JetStream not in clustered mode"),
    10007: ApiError(500, 10007, "JetStream cluster not assigned to this server"),
    10008: ApiError(503, 10008, "JetStream system temporarily unavailable"),
    10009: ApiError(500, 10009, "JetStream cluster can not handle request"),
    10011: ApiError(400, 10011, "tags placement not supported for operation"),
    10013: ApiError(400, 10013, "consumer name already in use"),
    10023: ApiError(503, 10023, "insufficient resources"),
    10027: ApiError(400, 10027, "maximum number of streams reached"),
    10028: ApiError(500, 10028, "insufficient memory resources available"),
    10035: ApiError(503, 10035, "account not found"),
    10036: ApiError(503, 10036, "not currently supported in clustered mode"),
    10039: ApiError(503, 10039, "JetStream not enabled for account"),
    10040: ApiError(400, 10040, "peer not a member"),
    10044: ApiError(400, 10044, "server is not a member of the cluster"),
    10047: ApiError(500, 10047, "insufficient storage resources available"),
    10048: ApiError(500, 10048, "{err}"),
    10049: ApiError(500, 10049, "{err}"),
    10050: ApiError(500, 10050, "{what} not supported yet by streamd"),
    10061: ApiError(400, 10061, "Replicas configuration can not be updated"),
    10069: ApiError(500, 10069, "{err}"),
    10075: ApiError(503, 10075, "peer remap failed"),
    10076: ApiError(503, 10076, "JetStream not enabled"),
    10077: ApiError(503, 10077, "{err}"),
    10099: ApiError(400, 10099, "multiple non-filtered consumers not allowed on workqueue stream"),
    10100: ApiError(400, 10100, "filtered consumer not unique on workqueue stream"),
    10102: ApiError(400, 10102, "consumer name is too long, maximum allowed is {max}"),
    10113: ApiError(400, 10113, "account requires a stream config to have max bytes set"),
    10118: ApiError(500, 10118, "stream is offline"),
    10119: ApiError(500, 10119, "consumer is offline"),
    10122: ApiError(400, 10122, "stream max bytes exceeds account limit max stream bytes"),
    10123: ApiError(400, 10123, "can not move and scale a stream in a single update"),
    10124: ApiError(400, 10124, "stream move already in progress"),
    10125: ApiError(400, 10125, "consumer max request batch exceeds server limit of {limit}"),
    10126: ApiError(400, 10126, "consumer config replica count exceeds parent stream"),
    10129: ApiError(400, 10129, "stream reconfiguration not in progress"),
    10158: ApiError(409, 10158, "duplicate message id is in process"),
    10163: ApiError(503, 10163, "expected last sequence per subject temporarily unavailable"),
    10164: ApiError(400, 10164, "wrong last sequence"),
    10167: ApiError(429, 10167, "too many requests"),
    10185: ApiError(412, 10185, "JetStream minimum api level required"),
    10194: ApiError(500, 10194, "stream is offline: {err}"),
    10195: ApiError(500, 10195, "consumer is offline: {err}"),
    10202: ApiError(400, 10202, "cluster member change is in progress"),
    10226: ApiError(400, 10226, "stream reconfiguration already in progress"),
}


@pytest.mark.parametrize("err_code", sorted(ROWS))
def test_row_is_what_nats_server_says(err_code: int) -> None:
    """Clients compare code and err_code; people read the text."""
    row = ROWS[err_code]
    if err_code in STATED:
        assert ApiError(row.code, row.err_code, row.description) == STATED[err_code]
        return
    pattern = re.sub(r"\\{\w+\\}", ".+", re.escape(row.description))
    matching = [text for code, text in RECORDED[err_code] if code == row.code and re.fullmatch(pattern, text)]

    assert len(matching) == len(RECORDED[err_code])


def test_values_are_filled_in() -> None:
    """A template takes its values by name, braces in them included."""
    assert errors.SEQUENCE_NOT_FOUND(seq=7).description == "sequence 7 not found"
    assert errors.INVALID_JSON(err="{x}").description == "invalid JSON: {x}"
    assert errors.BAD_REQUEST().wire() == {"code": 400, "err_code": 10003, "description": "bad request"}
