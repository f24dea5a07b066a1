"""Which stream configurations are possible, and what they become.

Purpose:    a request passes `stream_create` or `stream_update`; both settle defaults first and check the
            result.
Guarantee:  deterministic: no clock, no I/O. A returned configuration is a new object with nothing left open.
Non-goal:   other streams: whether subjects overlap theirs is asked by the service with `subjects_overlap`.
Source:     nats-server 2.15.2; texts as recorded in tests/api/golden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd._engine import subject_collides, subject_subset, subject_valid
from streamd.api.errors import (
    MAX_BYTES_REQUIRED,
    PEDANTIC,
    REPLICAS_NEGATIVE,
    REPLICAS_NOT_SUPPORTED,
    STREAM_BYTES_EXCEEDED,
    STREAM_INVALID_CONFIG,
    STREAM_NAME_MISMATCH,
    STREAM_NAME_PATH,
    ApiError,
)
from streamd.api.metadata import bare, stamp
from streamd.api.wire import go_quote
from streamd.state.later import stream_later
from streamd.state.limits import (
    DESCRIPTION_BYTES_MAX,
    DUPLICATE_WINDOW_NS,
    DUPLICATE_WINDOW_NS_MIN,
    MAX_AGE_NS_MIN,
    METADATA_BYTES_MAX,
    NAME_BYTES_MAX,
    REPLICAS_MAX,
    Limits,
    duration_text,
    metadata_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamd.api.stream import StreamConfig, StreamConfigRequest

BAD_NAME = "stream name is required and can not contain '.', '*', '>', '\\', '/'"
UNLIMITED = ("max_consumers", "max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size")


def stream_create(request: StreamConfigRequest, name: str, limits: Limits) -> StreamConfig:
    """The configuration of a new stream; `name` is the one in the API subject.

    Errors: ApiError for anything nats-server refuses, and for features that aren't there yet.
    """
    if request.name != name:
        raise STREAM_NAME_MISMATCH()
    config = settled(request, limits)
    if config.sealed:
        raise invalid("stream configuration for create can not be sealed")
    if config.mirror_direct and config.mirror is None:
        raise invalid("stream has no mirror but does have mirror direct")
    stream_later(config)
    return config


def stream_update(old: StreamConfig, request: StreamConfigRequest, name: str, limits: Limits) -> StreamConfig:
    """The configuration after an update. Errors: as `stream_create`, and for what can't change."""
    stream_name_check(request.name)
    if request.name != name:
        raise STREAM_NAME_MISMATCH()
    config = stream_update_check(old, settled(request, limits))
    stream_later(config)
    return config


def settled(request: StreamConfigRequest, limits: Limits) -> StreamConfig:
    """Defaults and checks that creating and updating share."""
    stream_name_check(request.name)
    config = stream_defaults(request.config(), limits, pedantic=request.pedantic)
    stream_check(config, limits)
    return config


def invalid(text: str) -> ApiError:
    """10052."""
    return STREAM_INVALID_CONFIG(err=text)


def name_valid(name: str) -> bool:
    """Names of streams and consumers: not empty, no white space, no `.*>/\\`."""
    return bool(name) and not any(character in " \t\r\n\f.*>/\\" for character in name)


def stream_name_check(name: str) -> None:
    """Errors: ApiError 10128, 10052."""
    if "/" in name or "\\" in name:
        raise STREAM_NAME_PATH()
    if not name_valid(name):
        raise invalid(BAD_NAME)
    if len(name.encode()) > NAME_BYTES_MAX:
        raise invalid(f"stream name is too long, maximum allowed is {NAME_BYTES_MAX}")


def subjects_overlap(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether some message could belong to both lists of subjects (10065 between streams)."""
    return any(subject_collides(one, other) for one in first for other in second)


def stream_defaults(config: StreamConfig, limits: Limits, *, pedantic: bool = False) -> StreamConfig:
    """The configuration with every default settled, as nats-server echoes it.

    Errors: ApiError 10157 if pedantic and a given value would be replaced.
    """
    new = config.model_copy()
    for name in UNLIMITED:
        value = getattr(config, name)
        if pedantic and value < -1:
            raise PEDANTIC(err=f"{name} must be set to -1")
        if value <= 0:
            setattr(new, name, -1)
    external = config.mirror is not None or config.sources
    if not config.subjects and not external:
        new.subjects = [config.name]
    if config.num_replicas == 0:
        new.num_replicas = 1
    if config.duplicate_window == 0 and not external:
        window = min(DUPLICATE_WINDOW_NS, limits.duplicate_window_ns_max or DUPLICATE_WINDOW_NS)
        short = 0 < config.max_age < window
        if pedantic and short:
            raise PEDANTIC(err="duplicate window cannot be bigger than max age")
        new.duplicate_window = config.max_age if short else window
    placement = config.placement
    if placement is not None and not (placement.cluster or placement.tags or placement.preferred):
        new.placement = None
    if config.persist_mode == "default":
        new.persist_mode = ""
    new.metadata = stamp(config.metadata)
    return new


def stream_check(config: StreamConfig, limits: Limits) -> None:
    """Everything nats-server checks in one configuration whose defaults are settled. Errors: ApiError."""
    if len(config.description.encode()) > DESCRIPTION_BYTES_MAX:
        raise invalid(f"stream description is too long, maximum allowed is {DESCRIPTION_BYTES_MAX}")
    if metadata_bytes(bare(config.metadata)) > METADATA_BYTES_MAX:
        raise invalid(f"stream metadata exceeds maximum size of {METADATA_BYTES_MAX} bytes")
    if config.num_replicas > REPLICAS_MAX:
        raise invalid(f"maximum replicas is {REPLICAS_MAX}")
    if config.num_replicas < 0:
        raise REPLICAS_NEGATIVE()
    check_ages(config, limits)
    if config.discard_new_per_subject:
        if config.discard != "new":
            raise invalid("discard new per subject requires discard new policy to be set")
        if config.max_msgs_per_subject <= 0:
            raise invalid("discard new per subject requires max msgs per subject > 0")
    if config.deny_purge and config.allow_rollup_hdrs:
        raise invalid("roll-ups require the purge permission")
    if config.placement is not None and config.placement.preferred:
        raise invalid("preferred server not permitted in placement")
    check_subjects(config)
    if config.num_replicas > 1 and not limits.clustered:
        raise REPLICAS_NOT_SUPPORTED()
    check_account(config, limits)


def check_ages(config: StreamConfig, limits: Limits) -> None:
    """Age and duplicate window."""
    if config.max_age < 0:
        raise invalid("max age can not be negative")
    if 0 < config.max_age < MAX_AGE_NS_MIN:
        raise invalid("max age needs to be >= 100ms")
    window = config.duplicate_window
    if window < 0:
        raise invalid("duplicates window can not be negative")
    if 0 < config.max_age < window:
        raise invalid("duplicates window can not be larger then max age")
    if 0 < window < DUPLICATE_WINDOW_NS_MIN:
        raise invalid("duplicates window needs to be >= 100ms")
    if 0 < limits.duplicate_window_ns_max < window:
        most = duration_text(limits.duplicate_window_ns_max)
        raise invalid(f"duplicates window can not be larger then server limit of {most}")


def check_subjects(config: StreamConfig) -> None:
    """Valid, not overlapping each other; the server's own subjects only without acks."""
    for index, subject in enumerate(config.subjects):
        if not subject_valid(subject, wildcards=True):
            raise invalid("invalid subject")
        for other in config.subjects[:index]:
            if subject_collides(other, subject):
                raise invalid(f"subject {go_quote(other)} overlaps with {go_quote(subject)}")
        if config.no_ack:
            continue
        if subject == ">":
            raise invalid("capturing all subjects requires no-ack to be true")
        api = any(subject_collides(subject, own) for own in ("$JS.>", "$JSC.>", "$NRG.>"))
        if api and not subject_subset(subject, "$JS.EVENT.>"):
            raise invalid("subjects that overlap with jetstream api require no-ack to be true")
        if subject_collides(subject, "$SYS.>") and not subject_subset(subject, "$SYS.ACCOUNT.>"):
            raise invalid("subjects that overlap with system api require no-ack to be true")
    if ">" in config.subjects and config.num_replicas > 1:
        raise invalid("capturing all subjects requires replicas to be 1")


def check_account(config: StreamConfig, limits: Limits) -> None:
    """Limits of the account on one stream; totals are the service's to count."""
    account = limits.account
    if account.max_bytes_required and config.max_bytes <= 0:
        raise MAX_BYTES_REQUIRED()
    most = account.memory_max_stream_bytes if config.storage == "memory" else account.storage_max_stream_bytes
    if most > 0 and (config.max_bytes <= 0 or config.max_bytes > most):
        raise STREAM_BYTES_EXCEEDED()


def stream_update_check(old: StreamConfig, new: StreamConfig) -> StreamConfig:
    """What `new` becomes as an update of `old`. Errors: ApiError for what can't change."""

    def refuse(what: str) -> ApiError:
        return invalid(f"stream configuration update can not {what}")

    if old.storage != new.storage:
        raise refuse("change storage type")
    if old.retention != new.retention and "workqueue" in (old.retention, new.retention):
        raise refuse("change retention policy to/from workqueue")
    if old.sealed and not new.sealed:
        raise refuse("unseal a sealed stream")
    if old.deny_delete and not new.deny_delete:
        raise refuse("cancel deny message deletes")
    if old.deny_purge and not new.deny_purge:
        raise refuse("cancel deny purge")
    if old.persist_mode != new.persist_mode:
        raise refuse("change persist mode")
    if not new.sealed:
        return new
    return new.model_copy(
        update={
            "max_age": 0,
            "discard": "new",
            "deny_delete": True,
            "deny_purge": True,
            "allow_rollup_hdrs": False,
        }
    )


def stream_equal(first: StreamConfig, second: StreamConfig) -> bool:
    """Whether a repeated create asks for what is there (else 10058)."""
    return {**first.wire(), "metadata": bare(first.metadata)} == {
        **second.wire(),
        "metadata": bare(second.metadata),
    }
