"""From the entries of a map to values for a model's fields, noting what is wrong and where.

Guarantee: no key is ignored. One that streamd doesn't know, or knows but can't do yet, is refused with its
place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from pydantic import ValidationError

from streamd import __version__
from streamd.config.block import Block
from streamd.config.errors import SettingError
from streamd.config.reading import Key, ReadWithWarning, WrongKind
from streamd.config.tree import Entry, Position, describe

Model = TypeVar("Model", bound=Block)


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass
class Problems:
    """What is wrong so far: a file is read to its end, so that one look shows all of it."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    # What is sound, but does less here than the file may hope.
    notes: list[str] = field(default_factory=list)
    # Places by path of field names, as pydantic names them.
    places: dict[tuple[str, ...], tuple[Position, str]] = field(default_factory=dict)

    def add(self, position: Position, text: str) -> None:
        self.errors.append(f"{position}: {text}")

    def add_invalid(self, error: ValidationError, path: tuple[str, ...] = ()) -> None:
        for one in error.errors(include_url=False):
            names = path + tuple(str(part) for part in one["loc"])
            cause = one.get("ctx", {}).get("error")
            if isinstance(cause, SettingError):
                names += cause.setting
            text = one["msg"].removeprefix("Value error, ")
            for length in range(len(names), 0, -1):
                if (place := self.places.get(names[:length])) is not None:
                    position, name = place
                    self.add(position, f"{name}: {_lower(text)}" if length else text)
                    break
            else:
                name = ".".join(names[: len(path) + 1])
                self.errors.append(f"{name}: {_lower(text)}" if name else text)


def _lower(text: str) -> str:
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


@cache
def keys_of(model: type[Block], block: str = "") -> dict[str, tuple[str, Key]]:
    """Every name a model's fields have in a file; with `block`, those in that inner block of the file."""
    found: dict[str, tuple[str, Key]] = {}
    for name, info in model.model_fields.items():
        for key in info.metadata:
            if isinstance(key, Key) and key.block == block:
                found |= dict.fromkeys(key.names, (name, key))
    return found


Special = Mapping[str, Callable[[Entry, Problems, dict[str, Any]], None]]


def read_fields(
    model: type[Block], entries: dict[str, Entry], problems: Problems, path: tuple[str, ...],
    later: frozenset[str], special: Special, block: str = "",
) -> dict[str, Any]:  # fmt: skip
    """The values of a map for a model's fields, in the model's units; problems are noted and skipped."""
    keys, values = keys_of(model, block), dict[str, Any]()
    for name, entry in entries.items():
        lowered = name.lower()
        if (handle := special.get(lowered)) is not None:
            handle(entry, problems, values)
        elif (found := keys.get(lowered)) is not None:
            attribute, key = found
            # The older of two spellings of a key must not lend its place to an error of the newer.
            problems.places[(*path, attribute)] = (entry.position, lowered)
            read_key(key, entry, attribute, problems, values)
        elif lowered in later:
            problems.add(entry.position, f'"{lowered}" is not supported yet by streamd {__version__}')
        elif not entry.used:
            problems.add(entry.position, f'unknown field "{name}"' + _suggestion(lowered, [*keys, *special], later))
    return values


def read_key(key: Key, entry: Entry, attribute: str, problems: Problems, values: dict[str, Any]) -> None:
    """Reads one value; one that can't be read is noted and leaves the field unset."""
    try:
        values[attribute] = key.read(entry.node)
    except ReadWithWarning as warning:
        values[attribute] = warning.value
        problems.warnings.append(f'{entry.position}: invalid use of field "{entry.name}": {entry.name} {warning}')
    except WrongKind as error:
        problems.add(entry.position, f'parameter "{entry.name}" {error}')
    except ValueError as error:
        problems.add(entry.position, f"{entry.name}: {error}")


def _suggestion(name: str, known: list[str], later: frozenset[str]) -> str:
    import difflib  # only people who slipped pay for it

    # A key that works is a better guess than a closer one that would be refused next.
    for names in (known, sorted(later)):
        if close := difflib.get_close_matches(name, names, n=1, cutoff=0.7):
            return f', did you mean "{close[0]}"?'
    return ""


def read_block(
    model: type[Model], entry: Entry, problems: Problems, path: tuple[str, ...], later: frozenset[str],
    special: Special,
) -> Model | None:  # fmt: skip
    """A block's model, or None with the reasons noted."""
    if not isinstance(entry.node.value, dict):
        problems.add(entry.position, f"{entry.name}: expected a map, got {describe(entry.node)}")
        return None
    problems.places[path] = (entry.position, path[-1])
    before = len(problems.errors)
    values = read_fields(model, entry.node.value, problems, path, later, special)
    if len(problems.errors) > before:
        return None
    try:
        return model(**values)
    except ValidationError as error:
        problems.add_invalid(error, path)
        return None
