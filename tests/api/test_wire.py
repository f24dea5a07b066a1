"""Reading and writing JSON: any bytes give a model or an ApiError; numbers, times and escapes are Go's."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.api.consumer import ConsumerCreateRequest, next_request
from streamd.api.errors import ApiError
from streamd.api.metadata import bare, dynamic, level_refused, stamp
from streamd.api.scan import syntax_error
from streamd.api.stream import StreamConfig, StreamConfigRequest
from streamd.api.wire import decode, encode, time_parse, time_text


def read(body: bytes, *, strict: bool = True) -> StreamConfigRequest | ApiError:
    """The model or the error."""
    try:
        return decode(StreamConfigRequest, body, strict=strict)
    except ApiError as error:
        return error


LETTERS = st.text(alphabet="az\u00e9\ud800<", max_size=5)
JSON_TEXT = st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\u \n', max_size=40)
NAMES = st.sampled_from(sorted(StreamConfig.model_fields))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | LETTERS | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LETTERS, inner, max_size=3),
    max_leaves=6,
)


@given(JSON_TEXT | st.binary(max_size=40))
def test_any_bytes_give_a_model_or_an_api_error(data: str | bytes) -> None:
    """Nothing a client sends may escape as another exception."""
    body = data.encode() if isinstance(data, str) else data
    for strict in (True, False):
        request = read(body, strict=strict)

        assert isinstance(request, StreamConfigRequest) or request.err_code == 10025
    with suppress(ValueError):
        next_request(body)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_values_give_a_model_or_an_api_error(value: dict[str, Any]) -> None:
    """Wrong types anywhere are 10025; what is accepted can be written and read again."""
    request = read(json.dumps(value).encode())
    if isinstance(request, ApiError):
        return
    config = request.config()

    assert decode(StreamConfigRequest, config.encode()).config() == config


@given(JSON_TEXT)
def test_scanner_agrees_with_the_parser(text: str) -> None:
    """What Python's parser takes is valid, what it refuses has a description."""
    try:
        json.loads(text, parse_constant=lambda _: 1 / 0)
        valid = True
    except (ValueError, ZeroDivisionError):
        valid = False

    assert (syntax_error(text, decoder=False) == "") == valid


def test_deep_nesting_is_refused() -> None:
    """The stack is bounded."""
    with pytest.raises(ApiError) as caught:
        decode(StreamConfigRequest, b"[" * 100_000)

    assert caught.value.err_code == 10025


def test_without_strict_unknown_fields_are_ignored() -> None:
    """The server's `strict` setting."""
    assert decode(StreamConfigRequest, b'{"name":"S","x":1}', strict=False).name == "S"
    with pytest.raises(ApiError):
        decode(StreamConfigRequest, b'{"name":"S","x":1}')


def test_numbers_above_2_to_the_53_stay_exact() -> None:
    """Sequences and nanoseconds are 64 bit integers."""
    body = b'{"stream_name":"S","config":{"opt_start_seq":18446744073709551615,"ack_wait":9223372036854775807}}'
    request = decode(ConsumerCreateRequest, body)

    assert b'"opt_start_seq":18446744073709551615' in request.config.encode()
    assert b'"ack_wait":9223372036854775807' in request.config.encode()


@pytest.mark.parametrize(
    ("text", "time_ns", "echoed"),
    [
        ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
        ("2024-01-02T03:04:05.120000000+02:00", 1704157445120000000, "2024-01-02T03:04:05.12+02:00"),
        ("2024-01-02T03:04:05.000000001Z", 1704164645000000001, "2024-01-02T03:04:05.000000001Z"),
        ("2024-01-02T03:04:05.0Z", 1704164645000000000, "2024-01-02T03:04:05Z"),
    ],
)
def test_times_are_read_and_echoed_as_go_does(text: str, time_ns: int, echoed: str) -> None:
    """The zone is kept, zeros are trimmed."""
    assert time_parse(text) == (time_ns, echoed)


@pytest.mark.parametrize("text", ["", "x", "2024-13-02T03:04:05Z", "2024-01-02", "2024-01-02T03:04:05"])
def test_bad_times_are_refused(text: str) -> None:
    """RFC 3339 with a zone, nothing else."""
    with pytest.raises(ValueError, match="parsing time"):
        time_parse(text)


@given(st.integers(1, 2**62))
def test_times_survive_the_round_trip(time_ns: int) -> None:
    """To the nanosecond."""
    assert time_parse(time_text(time_ns))[0] == time_ns


def test_escapes_are_those_of_go() -> None:
    """<, > and & as in HTML-safe JSON; line separators too; the rest as it is."""
    assert encode('<a>&\u2028"é\x07') == '"\\u003ca\\u003e\\u0026\\u2028\\"é\\u0007"'.encode()
    assert time_text(0) == "0001-01-01T00:00:00Z"


def test_own_metadata_is_stamped_and_hidden() -> None:
    """Clients can't set the server's keys."""
    stored = stamp({"a": "1", "_nats.ver": "x", "_nats.x": "y"})

    assert stored == {"a": "1", "_nats.x": "y", "_nats.req.level": "0"}
    assert bare(stored) == {"a": "1", "_nats.x": "y"}
    assert dynamic(stored, "2") == {**stored, "_nats.ver": "2", "_nats.level": "0"}


@pytest.mark.parametrize(
    ("header", "refused"),
    [(None, False), ("0", False), ("1", True), ("x", True), ("", True), ("9" * 99, True)],
)
def test_required_level_header(header: str | None, refused: bool) -> None:
    """More than there is, or not a number: 10185."""
    assert level_refused(header) is refused
