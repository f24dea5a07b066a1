"""Which consumer configurations are possible, and what they become.

Purpose:    the service calls `consumer_named` (what the API subject says), then `consumer_create` with the
            configuration that is there already, if any.
Guarantee:  deterministic: no clock, no I/O, no randomness: an ephemeral consumer without a name keeps "".
Non-goal:   other consumers, but for `workqueue_check`; interest on deliver subjects (10013) is the service's
            to know.
Source:     nats-server 2.15.2; texts as recorded in tests/api/golden.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from streamd._engine import subject_collides, subject_valid
from streamd.api import errors
from streamd.api.errors import CONSUMER_CREATE, CONSUMER_POLICY, PEDANTIC, STREAM_INVALID_CONFIG, ApiError
from streamd.api.metadata import bare, stamp
from streamd.api.wire import go_quote, time_parse
from streamd.state.later import consumer_later
from streamd.state.limits import (
    ACK_WAIT_NS,
    DESCRIPTION_BYTES_MAX,
    IDLE_HEARTBEAT_NS_MIN,
    INACTIVE_NS,
    MAX_ACK_PENDING,
    MAX_EXPIRES_NS_MIN,
    MAX_WAITING,
    METADATA_BYTES_MAX,
    NAME_BYTES_MAX,
    Limits,
    duration_text,
    metadata_bytes,
)
from streamd.state.stream import name_valid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamd.api.consumer import ConsumerConfig, ConsumerCreateRequest
    from streamd.api.stream import StreamConfig

BAD_NAME = "consumer name can not contain '.', '*', '>', '\\', '/'"


def consumer_named(
    request: ConsumerCreateRequest,
    stream: str,
    name: str = "",
    filter_subject: str = "",
    *,
    durable: bool = False,
) -> ConsumerConfig:
    """The requested configuration under the name that the API subject gives it.

    Shapes: `name` and `filter_subject` are "" where the subject has none; `durable`: DURABLE.CREATE.
    Errors: ApiError 10056, 10127, 10102, 10017, 10018, 10020, 10131, 10137, 10052.
    """
    config = request.config.model_copy()
    if request.stream_name != stream:
        raise errors.STREAM_NAME_MISMATCH()
    if durable:
        if not config.durable_name:
            raise errors.CONSUMER_DURABLE_MISSING()
    elif not name and config.durable_name:
        raise errors.CONSUMER_EPHEMERAL_DURABLE()
    name = name or config.name
    if "/" in name or "\\" in name:
        raise errors.CONSUMER_NAME_PATH()
    if config.durable_name and config.durable_name != name:
        raise errors.CONSUMER_DURABLE_MISMATCH()
    if filter_subject:
        if config.filter_subjects:
            raise errors.FILTERS_API()
        if filter_subject != config.filter_subject:
            raise errors.FILTER_MISMATCH()
    if name and not name_valid(name):
        raise STREAM_INVALID_CONFIG(err=BAD_NAME)
    if len(name.encode()) > NAME_BYTES_MAX:  # nats-server: 10012, its store can't be created
        raise errors.CONSUMER_NAME_LONG(max=NAME_BYTES_MAX)
    config.name = name
    return config


def consumer_create(
    config: ConsumerConfig,
    stream: StreamConfig,
    limits: Limits,
    *,
    old: ConsumerConfig | None = None,
    action: str = "",
    pedantic: bool = False,
) -> ConsumerConfig:
    """What the consumer's configuration will be: defaults settled, everything checked.

    Shapes: `old` is the consumer of that name, if any; it is the result itself if nothing changes.
    Errors: ApiError 10148, 10149, 10012 and all of `consumer_check`, also for features that aren't there yet.
    """
    new = consumer_defaults(config, stream, limits, pedantic=pedantic)
    consumer_check(new, stream, limits)
    if old is None:
        if action == "update":
            raise errors.CONSUMER_MISSING()
        if new.inactive_threshold == 0 and not new.durable_name:
            new.inactive_threshold = INACTIVE_NS
        return new
    # As in nats-server, `create` compares before the inactive threshold of ephemeral consumers is settled.
    if action == "create":
        if not consumer_equal(old, new):
            raise errors.CONSUMER_EXISTS()
        return old
    if new.inactive_threshold == 0 and not old.durable_name:
        new.inactive_threshold = INACTIVE_NS
    consumer_update_check(old, new)
    return old if consumer_equal(old, new) else new


def consumer_defaults(
    config: ConsumerConfig, stream: StreamConfig, limits: Limits, *, pedantic: bool = False
) -> ConsumerConfig:
    """The configuration with its defaults settled, but for the inactive threshold of ephemeral consumers.

    Errors: ApiError 10157 if pedantic and a given value would be replaced.
    """

    def strict(wrong: bool, text: str) -> None:
        if pedantic and wrong:
            raise PEDANTIC(err=text)

    new = config.model_copy()
    strict(config.max_deliver < -1, "max_deliver must be set to -1")
    if config.max_deliver == 0 or config.max_deliver < -1:
        new.max_deliver = -1
    for name in (
        "max_batch",
        "max_bytes",
        "max_expires",
        "inactive_threshold",
        "idle_heartbeat",
        "max_waiting",
    ):
        if getattr(config, name) < 0:
            strict(True, f"{name} must not be negative")
            setattr(new, name, 0)
    if config.deliver_subject == "" and new.max_waiting == 0:
        new.max_waiting = MAX_WAITING
    if config.deliver_subject == "" and new.max_batch == 0 and limits.max_request_batch > 0:
        new.max_batch = limits.max_request_batch
    if config.ack_wait == 0 and config.ack_policy in ("explicit", "all"):
        new.ack_wait = ACK_WAIT_NS
    if config.backoff:
        strict(config.ack_wait not in (0, config.backoff[0]), "first backoff value has to equal batch AckWait")
        new.ack_wait = max(config.backoff[0], 0)
    strict(config.max_ack_pending < -1, "max_ack_pending must be set to -1")
    new.max_ack_pending = max(config.max_ack_pending, -1)
    ours = stream.consumer_limits
    if new.max_ack_pending == 0 and ours.max_ack_pending:
        strict(True, "max_ack_pending must be set if it's configured in stream limits")
        new.max_ack_pending = ours.max_ack_pending
    if new.inactive_threshold == 0 and ours.inactive_threshold:
        strict(True, "inactive_threshold must be set if it's configured in stream limits")
        new.inactive_threshold = ours.inactive_threshold
    if new.max_ack_pending == 0 and config.ack_policy != "none":
        most = [limit for limit in (limits.account.max_ack_pending, limits.max_ack_pending) if limit > 0]
        new.max_ack_pending = min([MAX_ACK_PENDING, *most])
    new.metadata = stamp(config.metadata)
    return new


def consumer_check(config: ConsumerConfig, stream: StreamConfig, limits: Limits) -> None:
    """Everything nats-server checks in one configuration whose defaults are settled. Errors: ApiError."""
    if config.num_replicas < 0:
        raise errors.REPLICAS_NEGATIVE()
    if config.num_replicas > 1 and not limits.clustered:
        raise errors.REPLICAS_NOT_SUPPORTED()
    if config.num_replicas > stream.num_replicas:
        raise errors.CONSUMER_REPLICAS_EXCEED()
    if len(config.description.encode()) > DESCRIPTION_BYTES_MAX:
        raise errors.CONSUMER_DESCRIPTION_LONG(max=DESCRIPTION_BYTES_MAX)
    if metadata_bytes(bare(config.metadata)) > METADATA_BYTES_MAX:
        raise errors.CONSUMER_METADATA_LONG(limit="128KB")
    if config.ack_wait < 0:
        raise errors.ACK_WAIT_NEGATIVE()
    if any(delay < 0 for delay in config.backoff):
        raise errors.BACKOFF_NEGATIVE()
    if config.max_deliver != -1 and len(config.backoff) > config.max_deliver:
        raise errors.MAX_DELIVER_BACKOFF()
    if config.deliver_subject:
        check_push(config, stream)
    else:
        check_pull(config, stream)
    check_filters(config)
    check_start(config)
    check_sampling(config.sample_freq)
    check_limits(config, stream, limits)
    consumer_later(config)
    if stream.retention == "workqueue":
        if config.ack_policy != "explicit":
            raise errors.WORKQUEUE_EXPLICIT()
        if config.deliver_policy != "all":
            raise errors.WORKQUEUE_DELIVER_ALL()


def check_push(config: ConsumerConfig, stream: StreamConfig) -> None:
    """What only push consumers can get wrong."""
    deliver = config.deliver_subject
    if not subject_valid(deliver, wildcards=True):
        raise errors.DELIVER_INVALID()
    if not subject_valid(deliver, wildcards=False):
        raise errors.DELIVER_WILDCARDS()
    if any(subject_collides(deliver, subject) for subject in stream.subjects):
        raise errors.DELIVER_CYCLE()
    if config.max_waiting:
        raise errors.PUSH_MAX_WAITING()
    if config.max_ack_pending > 0 and config.ack_policy == "none" and not stream.consumer_limits.max_ack_pending:
        raise errors.MAX_ACK_PENDING_POLICY()
    if 0 < config.idle_heartbeat < IDLE_HEARTBEAT_NS_MIN:
        raise errors.HEARTBEAT_SMALL()
    if config.flow_control and not config.idle_heartbeat:
        raise errors.FLOW_CONTROL_HEARTBEAT()
    if config.direct and config.durable_name:
        raise errors.DIRECT_EPHEMERAL()


def check_pull(config: ConsumerConfig, stream: StreamConfig) -> None:
    """What only pull consumers can get wrong."""
    if stream.retention == "workqueue" and config.ack_policy == "none":
        raise errors.PULL_EXPLICIT()
    if config.rate_limit_bps:
        raise errors.PULL_RATE_LIMIT()
    if config.idle_heartbeat:
        raise errors.PULL_HEARTBEAT()
    if config.flow_control:
        raise errors.PULL_FLOW_CONTROL()
    if 0 < config.max_expires < MAX_EXPIRES_NS_MIN:
        raise errors.MAX_EXPIRES_SMALL()
    if config.direct:
        raise errors.DIRECT_PUSH()


def check_filters(config: ConsumerConfig) -> None:
    """Filters: one way, valid, not overlapping."""
    filters = config.filter_subjects
    if config.filter_subject and filters:
        raise errors.FILTERS_BOTH()
    if config.filter_subject and not subject_valid(config.filter_subject, wildcards=True):
        raise STREAM_INVALID_CONFIG(err="invalid subject")
    if "" in filters:
        raise errors.FILTERS_EMPTY()
    for index, subject in enumerate(filters):
        if not subject_valid(subject, wildcards=True):
            raise STREAM_INVALID_CONFIG(err="invalid subject")
        if any(subject_collides(subject, other) for other in filters[:index]):
            raise errors.FILTERS_OVERLAP()


STARTS = {
    "all": "all",
    "last": "last",
    "new": "new",
    "last_per_subject": "last per subject",
    "by_start_sequence": "by start sequence",
    "by_start_time": "by start time",
}


def check_start(config: ConsumerConfig) -> None:
    """The deliver policy and its options fit (10094)."""
    policy = config.deliver_policy

    def refuse(text: str) -> ApiError:
        return CONSUMER_POLICY(err=f"consumer delivery policy is deliver {STARTS[policy]}, but optional {text}")

    if policy == "by_start_sequence":
        if not config.opt_start_seq:
            raise refuse("start sequence is not set")
        if config.opt_start_time:
            raise refuse("start time is also set")
        return
    if policy == "by_start_time":
        if not config.opt_start_time:
            raise refuse("start time is not set")
        if config.opt_start_seq:
            raise refuse("start start sequence is also set")
        return
    if config.opt_start_seq:
        raise refuse("start sequence is also set")
    if config.opt_start_time:
        raise refuse("start time is also set")
    if policy == "last_per_subject" and not filters_of(config):
        raise refuse("filter subject is not set")


def check_sampling(sample_freq: str) -> None:
    """`N` or `N%` (10095)."""
    number = sample_freq.removesuffix("%")
    if not sample_freq:
        return
    if not re.fullmatch(r"[+-]?[0-9]+", number):
        raise errors.SAMPLING(err=f"strconv.Atoi: parsing {go_quote(number)}: invalid syntax")
    if int(number[:20]) < 0:
        raise errors.SAMPLING(err="<nil>")


def check_limits(config: ConsumerConfig, stream: StreamConfig, limits: Limits) -> None:
    """Ceilings of the stream, the account and the server."""
    ours = stream.consumer_limits
    for limit in (ours.max_ack_pending, limits.account.max_ack_pending, limits.max_ack_pending):
        if 0 < limit < config.max_ack_pending:
            raise errors.MAX_ACK_PENDING_EXCEEDS(limit=limit)
    if 0 < limits.max_request_batch < config.max_batch:
        raise errors.MAX_BATCH_EXCEEDS(limit=limits.max_request_batch)
    if 0 < ours.inactive_threshold < config.inactive_threshold:
        raise errors.INACTIVE_EXCEEDS(limit=duration_text(ours.inactive_threshold))


def filters_of(config: ConsumerConfig) -> Sequence[str]:
    """The filters as one list; empty: everything."""
    return config.filter_subjects or ([config.filter_subject] if config.filter_subject else [])


def workqueue_check(config: ConsumerConfig, others: Iterable[ConsumerConfig]) -> None:
    """On a workqueue stream every message belongs to one consumer. Errors: ApiError 10099, 10100."""
    mine = filters_of(config)
    for other in others:
        theirs = filters_of(other)
        if not mine or not theirs:
            raise errors.WORKQUEUE_MULTIPLE()
        if any(subject_collides(one, two) for one in mine for two in theirs):
            raise errors.WORKQUEUE_NOT_UNIQUE()


def consumer_equal(first: ConsumerConfig, second: ConsumerConfig) -> bool:
    """Whether two settled configurations ask for the same (action `create`: else 10148)."""
    return {**first.wire(), "metadata": bare(first.metadata)} == {
        **second.wire(),
        "metadata": bare(second.metadata),
    }


def consumer_update_check(old: ConsumerConfig, new: ConsumerConfig) -> None:
    """What an existing consumer can't change. Errors: ApiError 10012."""
    for name, text in (
        ("deliver_policy", "deliver policy"),
        ("opt_start_seq", "start sequence"),
        ("opt_start_time", "start time"),
        ("ack_policy", "ack policy"),
        ("replay_policy", "replay policy"),
        ("idle_heartbeat", "heart beats"),
        ("flow_control", "flow control"),
    ):
        before, after = getattr(old, name), getattr(new, name)
        if before != after and not (name == "opt_start_time" and same_time(before, after)):
            raise CONSUMER_CREATE(err=f"{text} can not be updated")
    if old.deliver_subject and not new.deliver_subject:
        raise CONSUMER_CREATE(err="can not update push consumer to pull based")
    if new.deliver_subject and not old.deliver_subject:
        raise CONSUMER_CREATE(err="can not update pull consumer to push based")
    if old.max_waiting != new.max_waiting:
        raise CONSUMER_CREATE(err="max waiting can not be updated")
    if old.mem_storage != new.mem_storage:
        raise CONSUMER_CREATE(err="storage type can not be updated")


def same_time(first: str, second: str) -> bool:
    """Whether two texts, perhaps in different zones, are the same time."""
    return bool(first and second) and time_parse(first)[0] == time_parse(second)[0]
