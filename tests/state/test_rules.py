"""Rules that recordings can't show: account limits, clusters, refused features, purity."""

from __future__ import annotations

from typing import Any

import pytest

from streamd.api import errors
from streamd.api.account import AccountLimits
from streamd.api.consumer import ConsumerConfig, ConsumerCreateRequest
from streamd.api.errors import ApiError
from streamd.api.stream import (
    ConsumerLimits,
    Republish,
    StreamConfig,
    StreamConfigRequest,
    StreamSource,
    SubjectTransform,
)
from streamd.state import later
from streamd.state.consumer import consumer_create, consumer_named, workqueue_check
from streamd.state.limits import Limits, duration_text
from streamd.state.stream import (
    stream_check,
    stream_create,
    stream_defaults,
    stream_equal,
    stream_update,
    subjects_overlap,
)

NONE = Limits()


def made(**config: Any) -> StreamConfig:
    """Stream S."""
    return stream_create(StreamConfigRequest(name="S", **config), "S", NONE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mirror", StreamSource(name="T")),
        ("sources", [StreamSource(name="T")]),
        ("retention", "interest"),
        ("retention", "workqueue"),
        ("subject_transform", SubjectTransform(src="a", dest="b")),
        ("republish", Republish(dest="b")),
        ("allow_msg_ttl", True),
        ("subject_delete_marker_ttl", 10**9),
        ("allow_msg_counter", True),
        ("allow_atomic", True),
        ("allow_msg_schedules", True),
        ("persist_mode", "async"),
        ("allow_batched", True),
    ],
)
def test_stream_features_of_later_are_refused_by_name(field: str, value: Any) -> None:
    """Never silently dropped: clients check the echo, people read the text."""
    with pytest.raises(ApiError) as caught:
        made(**{field: value})

    assert caught.value.err_code == 10052
    assert field in caught.value.description
    assert "not supported yet by streamd" in caught.value.description


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ack_policy", "flow_control"),
        ("rate_limit_bps", 5),
        ("direct", True),
        ("sourcing", True),
        ("pause_until", "2999-01-01T00:00:00Z"),
        ("priority_groups", ["a"]),
        ("priority_policy", "overflow"),
        ("priority_timeout", 5),
    ],
)
def test_consumer_features_of_later_are_refused_by_name(field: str, value: Any) -> None:
    """As for streams."""
    with pytest.raises(ApiError) as caught:
        consumer_create(ConsumerConfig(name="C", deliver_subject="d", **{field: value}), made(), NONE)

    assert caught.value.err_code == 10012
    assert field in caught.value.description


def test_every_later_feature_is_tested() -> None:
    """The two tests above name all rows."""
    assert len(later.STREAM) == 13
    assert len(later.CONSUMER) == 8


def test_account_limits_on_streams() -> None:
    """10113, 10122."""
    config = made()
    with pytest.raises(ApiError) as caught:
        stream_check(config, Limits(AccountLimits(max_bytes_required=True)))
    assert caught.value == errors.MAX_BYTES_REQUIRED()
    for account in (AccountLimits(storage_max_stream_bytes=10), AccountLimits(storage_max_stream_bytes=10)):
        with pytest.raises(ApiError) as caught:
            stream_check(config, Limits(account))
        assert caught.value == errors.STREAM_BYTES_EXCEEDED()
    stream_check(config, Limits(AccountLimits(memory_max_stream_bytes=10)))


def test_server_limit_of_the_duplicate_window() -> None:
    """The text names the limit."""
    with pytest.raises(ApiError, match="duplicates window can not be larger then server limit of 1m0s"):
        stream_check(made(), Limits(duplicate_window_ns_max=60 * 10**9))


def test_account_limit_of_max_ack_pending() -> None:
    """It lowers the default and refuses more (10121)."""
    limits = Limits(AccountLimits(max_ack_pending=10), max_ack_pending=20)
    stream = made()

    assert consumer_create(ConsumerConfig(ack_policy="all"), stream, limits).max_ack_pending == 10
    with pytest.raises(ApiError) as caught:
        consumer_create(ConsumerConfig(ack_policy="all", max_ack_pending=11), stream, limits)
    assert caught.value == errors.MAX_ACK_PENDING_EXCEEDS(limit=10)


def test_replicas_in_a_cluster() -> None:
    """More than one is fine there, but not more than the stream's (10126)."""
    limits = Limits(clustered=True)
    stream = stream_create(StreamConfigRequest(name="S", num_replicas=3), "S", limits)

    assert stream.num_replicas == 3
    with pytest.raises(ApiError) as caught:
        consumer_create(ConsumerConfig(num_replicas=5), stream, limits)
    assert caught.value == errors.CONSUMER_REPLICAS_EXCEED()


def test_long_consumer_names_are_refused() -> None:
    """10102 where nats-server fails to create a file."""
    with pytest.raises(ApiError) as caught:
        consumer_named(ConsumerCreateRequest(stream_name="S"), "S", "x" * 256)

    assert caught.value == errors.CONSUMER_NAME_LONG(max=255)


@pytest.mark.parametrize(
    ("mine", "theirs", "error"),
    [
        ([], [], errors.WORKQUEUE_MULTIPLE),
        (["a"], [], errors.WORKQUEUE_MULTIPLE),
        (["a", "b.*"], ["b.c"], errors.WORKQUEUE_NOT_UNIQUE),
        (["a"], ["b"], None),
    ],
)
def test_workqueue_messages_belong_to_one_consumer(mine: list[str], theirs: list[str], error: Any) -> None:
    """10099, 10100."""
    config, other = ConsumerConfig(filter_subjects=mine), ConsumerConfig(filter_subjects=theirs)
    if error is None:
        workqueue_check(config, [other])
        return
    with pytest.raises(ApiError) as caught:
        workqueue_check(config, [other])
    assert caught.value == error()


def test_settling_changes_no_argument() -> None:
    """The rules are pure: what came in stays what it was."""
    config = StreamConfig(name="S", metadata={"a": "1"})
    before = config.model_copy(deep=True)

    assert stream_defaults(config, Limits()) != config
    assert config == before
    assert stream_defaults(stream_defaults(config, Limits()), Limits()) == stream_defaults(config, Limits())


def test_an_unchanged_update_returns_the_consumer_itself() -> None:
    """The service can see that nothing is to be stored."""
    stream = made()
    old = consumer_create(ConsumerConfig(name="C"), stream, NONE)

    assert consumer_create(ConsumerConfig(name="C"), stream, NONE, old=old) is old
    assert consumer_create(ConsumerConfig(name="C", description="x"), stream, NONE, old=old) is not old


def test_streams_compare_without_the_servers_metadata() -> None:
    """A repeated create after an upgrade is still the same."""
    config = made(metadata={"a": "1"})
    other = config.model_copy(update={"metadata": {"a": "1", "_nats.req.level": "3"}})

    assert stream_equal(config, other)
    assert not stream_equal(config, made())


def test_update_of_a_stream_keeps_its_rules() -> None:
    """Consumer limits may change, storage may not."""
    old = made()
    request = StreamConfigRequest(name="S", consumer_limits=ConsumerLimits(max_ack_pending=3))

    assert stream_update(old, request, "S", NONE).consumer_limits.max_ack_pending == 3


def test_subjects_overlap() -> None:
    """Between streams: 10065."""
    assert subjects_overlap(["a", "b.*"], ["b.c"])
    assert not subjects_overlap(["a", "b.*"], ["b.c.d", "c"])


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0s"),
        (7, "7ns"),
        (1500, "1.5µs"),
        (10**8, "100ms"),
        (15 * 10**8, "1.5s"),
        (3610 * 10**9, "1h0m10s"),
    ],
)
def test_durations_are_printed_as_go_does(duration_ns: int, text: str) -> None:
    """In error texts."""
    assert duration_text(duration_ns) == text
