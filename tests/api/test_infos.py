"""Answers about messages, pages and consumers: rebuilt from recordings they are byte for byte the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from streamd.api.consumer import next_request
from streamd.api.errors import ApiError
from streamd.api.messages import direct_request, get_check, purge_check
from streamd.api.subjects import find
from streamd.api.wire import MOMENT, Wire, inner, time_parse

if TYPE_CHECKING:
    from streamd.api.answer import Answer

ROWS: list[list[str]] = json.loads((Path(__file__).parent / "golden" / "infos.json").read_text())
ANSWERS = [row for row in ROWS if row[2].startswith("{") and "type" in json.loads(row[2])]
LATER = ("PAUSE", "UNPIN", "RESET", "SNAPSHOT", "RESTORE")
CHECKS = {"msg_get": get_check, "stream_purge": purge_check}
# Errors that follow from what is stored: the service's to find.
STORED = {10014, 10017, 10037, 10043, 10057, 10059, 10110}


def build(model: type[Wire], value: dict[str, Any]) -> Any:
    """A message from its JSON value."""
    if "info" in model.model_fields:
        value = {**value, "info": {key: item for key, item in value.items() if key != "did_create"}}
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if name not in value:
            if name == "did_create":
                fields[name] = False
            continue
        item, nested = value[name], inner(field.annotation)
        if MOMENT in field.metadata:
            item = 0 if item.startswith("0001") else time_parse(item)[0]
        elif nested is not None and item is not None:
            item = [build(nested, one) for one in item] if isinstance(item, list) else build(nested, item)
        fields[name] = item
    return model.model_construct(**fields)


@pytest.mark.parametrize("row", ANSWERS, ids=lambda row: (row[0] + row[1])[8:60])
def test_answer_is_byte_for_byte_the_recorded_one(row: list[str]) -> None:
    """Field order, omitted zero values, times and escapes are part of the protocol."""
    subject, body, expected = row
    found = find(subject)
    assert found is not None
    endpoint, _ = found
    assert endpoint.answer is not None
    if any(word in subject for word in LATER):
        assert endpoint.refusal is not None

        answer = json.loads(endpoint.answer.failure(endpoint.refusal))
        assert answer["error"]["err_code"] == 10050
        assert answer["type"] == json.loads(expected)["type"]
        return
    value = json.loads(expected)
    if "error" in value:
        error = ApiError(**value["error"])
        if error.err_code not in STORED:
            assert refusal(endpoint.handler, subject, body) == error
        assert endpoint.answer.failure(error).decode() == expected
        return
    if "none" not in endpoint.body and endpoint.request is not None:
        endpoint.read(body.encode())

    assert build(endpoint.answer, value).encode().decode() == expected


def refusal(handler: str, subject: str, body: str) -> ApiError | None:
    """The error that comes before anything stored is looked at."""
    found = find(subject)
    assert found is not None
    endpoint, _ = found
    if endpoint.refusal is not None:
        return endpoint.refusal
    try:
        request = endpoint.read(body.encode())
    except ApiError as error:
        return error
    check: Any = CHECKS.get(handler)
    return check(request) if check else None


def test_subjects_without_a_row_get_no_answer() -> None:
    """nats-server stays silent for them."""
    silent = [row[0] for row in ROWS if row[2] == "" and "RESET" not in row[0]]

    assert silent
    assert [subject for subject in silent if find(subject)] == []


def test_pull_requests_are_refused_with_the_recorded_texts() -> None:
    """The status line carries the parser's text."""
    for subject, body, expected in ROWS:
        if "MSG.NEXT" not in subject:
            continue
        if "400 Bad Request" in expected:
            with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
                next_request(body.encode())
            assert f"NATS/1.0 400 Bad Request - {caught.value}\r\n\r\n" == expected
        else:
            next_request(body.encode())


def test_direct_gets_are_refused_with_the_recorded_status() -> None:
    """Clients look at the status alone."""
    for subject, body, expected in ROWS:
        if "DIRECT.GET.S" not in subject or subject.endswith(".s"):
            continue
        if "408" in expected:
            with pytest.raises(ValueError) as caught:  # noqa: PT011 the text is compared below
                direct_request(body.encode())
            assert f"NATS/1.0 {caught.value}\r\n\r\n" == expected
        else:
            direct_request(body.encode())


@pytest.mark.parametrize(
    ("body", "batch"),
    [
        (b"", 1),
        (b"5", 5),
        (b" 7 ", 7),
        (b"x", 1),
        (b"-3", 1),
        (b"{}", 1),
        (b'{"batch":9}', 9),
        (b"9" * 40, 1),
    ],
)
def test_pull_request_forms(body: bytes, batch: int) -> None:
    """Old clients send nothing or a number."""
    assert next_request(body).batch == batch


def test_every_answer_has_its_own_type() -> None:
    """Clients choose the parser by it."""
    from streamd.api.subjects import ENDPOINTS

    kinds: dict[str, set[type[Answer]]] = {}
    for endpoint in ENDPOINTS:
        if endpoint.answer is not None:
            kinds.setdefault(endpoint.answer.kind, set()).add(endpoint.answer)

    assert [kind for kind, answers in kinds.items() if len(answers) > 1] == []
