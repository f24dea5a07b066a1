"""From a file and flags to a Config, or to an error that says where and what.

Guarantee: no key is ignored. One that streamd doesn't know, or knows but can't do yet, is refused with its
place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from streamd import __version__
from streamd.config import reading
from streamd.config.errors import ConfigError
from streamd.config.models import AuthorizationConfig, Config, JetStreamConfig, JetStreamLimits, _Block
from streamd.config.reading import Key, ReadWithWarning
from streamd.config.tree import Entry, Node, Position, describe

_Model = TypeVar("_Model", bound=_Block)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Keys of nats-server (and NATS Streaming) that would change what the server does, so they can't be ignored.
_LATER: Final = _words(
    """
    accounts account_resolver allow_non_tls cluster connect_error_reports default_js_domain default_sentinel
    feature_flags gateway http_base_path https https_port leaf leafnodes log_max_num log_size_limit
    logfile_max_num logfile_size_limit mappings maps mqtt no_auth_user no_system_account ocsp ocsp_cache
    operator operators prof_block_rate prof_port proxies proxy_protocol reconnect_error_reports remote_syslog
    resolver resolver_pinned_accounts resolver_preload resolver_tls root roots streaming syslog system
    system_account tls trace_headers trace_verbose trusted trusted_keys websocket write_timeout ws
    """
)
_LATER_JETSTREAM: Final = _words(
    """
    cipher domain ek encryption_key extension_hint key max_concurrent_io max_outstanding_catchup meta_compact
    meta_compact_size meta_compact_sync prev_ek prev_encryption_key prev_key tpm unique_tag
    """
)
_LATER_AUTHORIZATION: Final = _words("auth_callout auth_hook default_permissions permissions proxy_required users")
_LATER_LIMITS: Final = frozenset(["batch", "max_ha_assets"])


def load_file(path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration of a file; `overrides` are fields of Config that flags gave, and win.

    Errors:  ConfigError, one line a problem.
    """
    # Not at the top: a server started by flags alone needs no parser.
    from streamd.config.parse import parse_file

    return _build(parse_file(path), os.fspath(path), overrides or {})


def load_text(text: str, *, file: str = "<text>", overrides: Mapping[str, Any] | None = None) -> Config:
    """As `load_file`, from a text."""
    from streamd.config.parse import parse_text

    return _build(parse_text(text, file=file), file, overrides or {})


def from_flags(overrides: Mapping[str, Any]) -> Config:
    """The configuration of a server without a file. Errors: ConfigError."""
    return _finish(_Problems(), {}, overrides)


@dataclass
class _Problems:
    """What is wrong so far: a file is read to its end, so that one look shows all of it."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    # Places by path of field names, as pydantic names them.
    places: dict[tuple[str, ...], tuple[Position, str]] = field(default_factory=dict)

    def add(self, position: Position, text: str) -> None:
        self.errors.append(f"{position}: {text}")

    def add_invalid(self, error: ValidationError, path: tuple[str, ...] = ()) -> None:
        for one in error.errors(include_url=False):
            names = path + tuple(str(part) for part in one["loc"])
            text = one["msg"].removeprefix("Value error, ")
            for length in range(len(names), 0, -1):
                if (place := self.places.get(names[:length])) is not None:
                    position, name = place
                    self.add(position, f"{name}: {_lower(text)}" if length else text)
                    break
            else:
                name = ".".join(path + tuple(str(part) for part in one["loc"][:1]))
                self.errors.append(f"{name}: {_lower(text)}" if name else text)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _build(root: Node, file: str, overrides: Mapping[str, Any]) -> Config:
    from streamd.config.digest import digest

    assert isinstance(root.value, dict)
    problems = _Problems()
    special = {
        "listen": _listen("host", "port"),
        "http": _listen("http_host", "http_port"),
        "http_port": _listen("http_host", "http_port"),
        "monitor_port": _listen("http_host", "http_port"),
        "authorization": _authorization,
        "jetstream": _jetstream,
        "store_dir": _store_dir,
        "storedir": _store_dir,
    }
    values = _fields(Config, root.value, problems, (), _LATER, special)
    store_dir = values.pop("store_dir", None)
    block = values.get("jetstream")
    if store_dir is not None and isinstance(block, JetStreamConfig):
        if block.store_dir is not None:
            problems.add(problems.places[("store_dir",)][0], "duplicate 'store_dir' configuration")
        values["jetstream"] = block.model_copy(update={"store_dir": store_dir})
    elif store_dir is not None:
        overrides = {"store_dir": store_dir, **overrides}
    if not root.value:
        problems.warnings.append(f"{file}: config has no values or is empty")
    values |= {"file": file, "digest": digest(root)}
    return _finish(problems, values, overrides)


def _finish(problems: _Problems, values: dict[str, Any], overrides: Mapping[str, Any]) -> Config:
    merged = {**values, "warnings": tuple(problems.warnings), **overrides}
    if merged.get("jetstream") is True and isinstance(values.get("jetstream"), JetStreamConfig):
        merged["jetstream"] = values["jetstream"]  # the flag switches on what the file describes
    merged = _merge_authorization(_merge_jetstream(merged))
    # A flag's value has no place in the file, even where the file named the same key.
    for name in overrides:
        problems.places.pop((name,), None)
    config = None
    try:
        config = Config(**merged)
    except ValidationError as error:
        problems.add_invalid(error)
    if problems.errors or config is None:
        raise ConfigError("\n".join(problems.errors))
    return config


def _merge_jetstream(values: dict[str, Any]) -> dict[str, Any]:
    """Folds the flags --jetstream and --store_dir into the block."""
    store_dir, block = values.pop("store_dir", None), values.get("jetstream")
    if block is True:
        block = values["jetstream"] = JetStreamConfig()
    if store_dir is not None and isinstance(block, JetStreamConfig):
        values["jetstream"] = block.model_copy(update={"store_dir": store_dir})
    return values


def _merge_authorization(values: dict[str, Any]) -> dict[str, Any]:
    """Folds the flags --user, --pass and --auth into the block; they replace the file's way in."""
    given = {name: values.pop(name) for name in ("user", "password", "token") if name in values}
    if given:
        before = values.get("authorization")
        timeout = before.timeout_ns if isinstance(before, AuthorizationConfig) else None
        values["authorization"] = given if timeout is None else {**given, "timeout_ns": timeout}
    return values


@cache
def _keys(model: type[_Block]) -> dict[str, tuple[str, Key]]:
    """Every name a model's fields have in a file."""
    found: dict[str, tuple[str, Key]] = {}
    for name, info in model.model_fields.items():
        for key in info.metadata:
            if isinstance(key, Key):
                found |= dict.fromkeys(key.names, (name, key))
    return found


_Special = Mapping[str, Callable[[Entry, _Problems, dict[str, Any]], None]]


def _fields(
    model: type[_Block], entries: dict[str, Entry], problems: _Problems, path: tuple[str, ...],
    later: frozenset[str], special: _Special,
) -> dict[str, Any]:  # fmt: skip
    """The values of a map for a model's fields, in the model's units; problems are noted and skipped."""
    keys, values = _keys(model), dict[str, Any]()
    for name, entry in entries.items():
        lowered = name.lower()
        if (handle := special.get(lowered)) is not None:
            handle(entry, problems, values)
        elif (found := keys.get(lowered)) is not None:
            attribute, key = found
            # The older of two spellings of a key must not lend its place to an error of the newer.
            problems.places[(*path, attribute)] = (entry.position, lowered)
            _read(key, entry, attribute, problems, values)
        elif lowered in later:
            problems.add(entry.position, f'"{lowered}" is not supported yet by streamd {__version__}')
        elif not entry.used:
            problems.add(entry.position, f'unknown field "{name}"' + _suggestion(lowered, [*keys, *special], later))
    return values


def _read(key: Key, entry: Entry, attribute: str, problems: _Problems, values: dict[str, Any]) -> None:
    try:
        values[attribute] = key.read(entry.node)
    except ReadWithWarning as warning:
        values[attribute] = warning.value
        problems.warnings.append(f'{entry.position}: invalid use of field "{entry.name}": {entry.name} {warning}')
    except ValueError as error:
        problems.add(entry.position, f"{entry.name}: {error}")


def _suggestion(name: str, known: list[str], later: frozenset[str]) -> str:
    import difflib  # only people who slipped pay for it

    # A key that works is a better guess than a closer one that would be refused next.
    for names in (known, sorted(later)):
        if close := difflib.get_close_matches(name, names, n=1, cutoff=0.7):
            return f', did you mean "{close[0]}"?'
    return ""


def _listen(host: str, port: str) -> Callable[[Entry, _Problems, dict[str, Any]], None]:
    def handle(entry: Entry, problems: _Problems, values: dict[str, Any]) -> None:
        try:
            named, number = reading.address(entry.node)
        except ValueError as error:
            problems.add(entry.position, f"{entry.name}: {error}")
            return
        values[port] = number
        problems.places[(port,)] = (entry.position, entry.name.lower())
        if named is not None:
            values[host] = named

    return handle


def _store_dir(entry: Entry, problems: _Problems, values: dict[str, Any]) -> None:
    problems.places[("store_dir",)] = (entry.position, "store_dir")
    _read(Key("store_dir", reading.string), entry, "store_dir", problems, values)


def _block(
    model: type[_Model], entry: Entry, problems: _Problems, path: tuple[str, ...], later: frozenset[str],
    special: _Special,
) -> _Model | None:  # fmt: skip
    """A block's model, or None with the reasons noted."""
    if not isinstance(entry.node.value, dict):
        problems.add(entry.position, f"{entry.name}: expected a map, got {describe(entry.node)}")
        return None
    problems.places[path] = (entry.position, path[-1])
    before = len(problems.errors)
    values = _fields(model, entry.node.value, problems, path, later, special)
    if len(problems.errors) > before:
        return None
    try:
        return model(**values)
    except ValidationError as error:
        problems.add_invalid(error, path)
        return None


def _authorization(entry: Entry, problems: _Problems, values: dict[str, Any]) -> None:
    values["authorization"] = _block(AuthorizationConfig, entry, problems, ("authorization",), _LATER_AUTHORIZATION, {})


def _jetstream(entry: Entry, problems: _Problems, values: dict[str, Any]) -> None:
    value = entry.node.value
    if isinstance(value, bool):
        values["jetstream"] = value
        return
    if isinstance(value, str) and value.lower() in ("enabled", "enable", "disabled", "disable"):
        values["jetstream"] = value.lower().startswith("enable")
        return
    if not isinstance(value, dict):
        got = f'"{value}"' if isinstance(value, str) else describe(entry.node)
        problems.add(entry.position, f"jetstream: expected a map, a boolean, enabled or disabled, got {got}")
        return
    switch = {"enabled": True}

    def enabled(inner: Entry, problems: _Problems, _values: dict[str, Any]) -> None:
        _read(Key("enabled", reading.boolean), inner, "enabled", problems, switch)

    def limits(inner: Entry, problems: _Problems, values: dict[str, Any]) -> None:
        path = ("jetstream", "limits")
        if (block := _block(JetStreamLimits, inner, problems, path, _LATER_LIMITS, {})) is not None:
            values["limits"] = block

    special = {"enabled": enabled, "enable": enabled, "limits": limits}
    block = _block(JetStreamConfig, entry, problems, ("jetstream",), _LATER_JETSTREAM, special)
    values["jetstream"] = block if switch["enabled"] else None
