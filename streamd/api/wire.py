"""JSON of the JetStream API, as nats-server reads and writes it.

Purpose:    `Wire` is the base of every request and response model. The order of its fields is the order on
            the wire; a field of zero value stays away unless marked ALWAYS. `decode` reads a request
            strictly, with Go's own texts.
Guarantee:  integers are never floats; times are RFC 3339 with nanoseconds, trailing zeros trimmed; `<`, `>`
            and `&` are escaped. Any bytes give a model or an ApiError, nothing else.
Non-goal:   what a value means: that is in `streamd.state`.
Source:     nats-server 2.15.2 as recorded in tests/api/golden.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from inspect import get_annotations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NoReturn, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.functional_validators import AfterValidator

from streamd.api.errors import INVALID_JSON
from streamd.api.scan import syntax_error

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ALWAYS = "always"  # metadata of a field: emitted even if zero
MOMENT = "moment"  # metadata of a field: nanoseconds here, RFC 3339 on the wire; 0 is Go's zero time
ZERO_TIME = "0001-01-01T00:00:00Z"


@dataclass(frozen=True)
class Go:
    """How Go calls a type in its error texts; `wrong` replaces the text ({raw}: the value; {quoted})."""

    type: str
    wrong: str = ""


Int = Annotated[int, Field(ge=-(2**63), lt=2**63), Go("int")]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63), Go("int64")]
Int32 = Annotated[int, Field(ge=-(2**31), lt=2**31), Go("int32")]
Uint64 = Annotated[int, Field(ge=0, lt=2**64), Go("uint64")]
DurationNs = Annotated[int, Field(ge=-(2**63), lt=2**63), Go("time.Duration")]
Text = Annotated[str, Go("string")]
Flag = Annotated[bool, Go("bool")]
Texts = Annotated[list[Text], Go("[]string")]
TimeNs = Annotated[int, MOMENT]

TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII)


def time_text(time_ns: int) -> str:
    """RFC 3339 in UTC of nanoseconds since the epoch; 0 is the zero time 0001-01-01T00:00:00Z."""
    if time_ns == 0:
        return ZERO_TIME
    seconds, fraction = divmod(time_ns, 10**9)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else text + "Z"


def time_parse(text: str) -> tuple[int, str]:
    """(nanoseconds since the epoch, the text as Go prints it: fraction trimmed, zone kept).

    Errors: ValueError with Go's text if it is no RFC 3339 time.
    """
    match = TIME.fullmatch(text)
    quoted = go_quote(text)
    error = f'parsing time {quoted} as "2006-01-02T15:04:05Z07:00": cannot parse {quoted} as "2006"'
    if match is None:
        raise ValueError(error)
    base, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(base + zone.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(error) from None
    digits = (fraction or "")[:9].rstrip("0")
    whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // ONE_SECOND
    zone = "Z" if zone == "+00:00" else zone
    return whole * 10**9 + int(digits.ljust(9, "0")), base + (f".{digits}" if digits else "") + zone


ONE_SECOND = datetime(1970, 1, 1, 0, 0, 1) - datetime(1970, 1, 1)
Time = Annotated[  # kept as text, since its zone is echoed; `time_parse` gives the number
    str,
    AfterValidator(lambda text: time_parse(text)[1] if text else text),
    Go("time.Time", "Time.UnmarshalJSON: input is not a JSON string"),
]


def go_quote(text: str) -> str:
    """Go's %q of a text, near enough for error descriptions."""
    return json.dumps(text, ensure_ascii=False)


def encode(value: Any) -> bytes:
    """JSON bytes as Go's encoder writes them."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if SPECIAL.search(text):
        text = SPECIAL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return text.encode("utf-8", "replace")


SPECIAL = re.compile("[<>&\u2028\u2029]")


class Wire(BaseModel):
    """Base of all messages: strict types, exact order, zero values omitted unless ALWAYS."""

    model_config = ConfigDict(strict=True, extra="ignore", defer_build=True, validate_default=False)

    go_name: ClassVar[str] = ""  # the struct's name in Go's error texts
    spelled: ClassVar[dict[str, str]] = {}  # fields whose names on the wire can't be Python's, in requests

    def wire(self) -> dict[str, Any]:
        """This message as a JSON value."""
        out: dict[str, Any] = {}
        values = self.__dict__
        for name, always, moment, deep in plan(type(self)):
            value = values[name]
            if not (value or always) or value is None:
                if not (always and value is None):
                    continue
            elif moment:
                value = time_text(value)
            elif deep:
                value = [item.wire() for item in value] if isinstance(value, list) else value.wire()
            elif isinstance(value, dict):
                value = dict(sorted(value.items()))
            out[name] = value
        return out

    def encode(self) -> bytes:
        """This message as JSON bytes."""
        return encode(self.wire())


@cache
def plan(model: type[Wire]) -> tuple[tuple[str, bool, bool, bool], ...]:
    """Per field in order: (name, always emitted, a time, holds messages)."""
    return tuple(
        (name, ALWAYS in field.metadata, MOMENT in field.metadata, inner(field.annotation) is not None)
        for name, field in model.model_fields.items()
    )


def inner(annotation: Any) -> type[Wire] | None:
    """The message class inside an annotation (X, X | None, list[X], Annotated[X, ...]), if any."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, Wire) else None
    for part in get_args(annotation):
        found = inner(part)
        if found is not None:
            return found
    return None


Model = TypeVar("Model", bound=Wire)


@dataclass(frozen=True)
class Fraction:
    """A number with a fraction or an exponent: no field takes one, the text is for the error."""

    text: str


def decode(model: type[Model], body: bytes, *, strict: bool = True) -> Model:
    """Read a request. Blank and `null` are one without fields; a whole value may be followed by others.

    Errors: ApiError 10025 for bad syntax, wrong types and, if strict, unknown fields.
    """
    if not body:
        return model()
    try:
        return decode_plain(model, body, strict=strict)
    except ValueError as error:
        raise INVALID_JSON(err=str(error)) from None


def decode_plain(model: type[Model], body: bytes, *, strict: bool) -> Model:
    """As `decode`. Errors: ValueError with Go's text."""
    text = body.decode("utf-8", "replace")
    try:
        value, end = DECODER.raw_decode(text, WHITE.match(text).end())  # type: ignore[union-attr]
        rest = text[end:].strip(" \t\r\n")
        if rest and (not strict or syntax_error(rest, decoder=True)):
            raise ValueError
    except RecursionError:
        raise ValueError("exceeded max depth") from None
    except ValueError:
        if strict and not text.strip(" \t\r\n"):
            return model()
        raise ValueError(syntax_error(text, decoder=strict) or "json: cannot unmarshal number") from None
    if "\\u" in text:
        value = without_surrogates(value)
    if value is None:
        return model()
    if not isinstance(value, dict):
        raise ValueError(f"json: cannot unmarshal {kind(value)} into Go value of type server.{model.go_name}")
    value = canonical(model, value, strict=strict)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fail(model, value, error)


WHITE = re.compile(r"[ \t\r\n]*")


def refuse_constant(text: str) -> NoReturn:
    """NaN and Infinity are not JSON."""
    raise ValueError(text)


DECODER = json.JSONDecoder(parse_float=Fraction, parse_constant=refuse_constant)


def without_surrogates(value: Any) -> Any:
    """Lone surrogates become U+FFFD, as in Go."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value


def canonical(model: type[Wire], value: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    """Field names matched as Go does (any case), `null` fields left out.

    Errors: ValueError for an unknown field, if strict.
    """
    fields = model.model_fields
    out: dict[str, Any] = {}
    for key, item in value.items():
        name = key if key in fields else model.spelled.get(key.lower(), key.lower())
        if name not in fields:
            if strict:
                raise ValueError(f"json: unknown field {go_quote(key)}")
            continue
        field = fields[name]
        if item is None and get_origin(field.annotation) is not Literal:
            continue
        nested = inner(field.annotation)
        if nested is not None and isinstance(item, dict):
            item = canonical(nested, item, strict=strict)
        elif nested is not None and isinstance(item, list):
            item = [canonical(nested, one, strict=strict) if isinstance(one, dict) else one for one in item]
        elif isinstance(item, list) and None in item:
            item = ["" if one is None else one for one in item]
        out[name] = item
    return out


def wrong_text(metadata: list[Any]) -> str:
    """The text of a field's own for wrong values, if it has one."""
    return next((item.wrong for item in metadata if isinstance(item, Go)), "")


def kind(value: Any) -> str:
    """What Go calls a JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | Fraction):
        return "number"
    names: dict[type, str] = {str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def fail(model: type[Wire], value: dict[str, Any], error: ValidationError) -> NoReturn:
    """Raise what Go says: a type's own text if one fails, else the first error in the order of the text."""
    order = {name: index for index, name in enumerate(value)}
    places = [place(model, one) for one in sorted(error.errors(), key=lambda one: order.get(str(one["loc"][0]), 0))]
    first = next((one for one in places if one.own), places[0])
    if first.own:
        raise ValueError(first.own)
    what = kind(first.given)
    if what == "number" and first.type in NUMBERS:
        what += f" {first.given.text if isinstance(first.given, Fraction) else first.given}"
    raise ValueError(f"json: cannot unmarshal {what} into Go struct field {first.path} of type {first.type}")


@dataclass(frozen=True)
class Place:
    """Where a value doesn't fit: Go's name of the field and of its type, or the type's own text."""

    path: str
    type: str
    own: str
    given: Any


def place(model: type[Wire], error: ErrorDetails) -> Place:
    """Follow an error's location through the models."""
    struct: type[Wire] = model
    path: list[str] = []
    metadata: list[Any] = []
    annotation: Any = None
    location = error["loc"]
    for index, part in enumerate(location):
        field = struct.model_fields.get(part) if isinstance(part, str) and index == len(path) else None
        if field is None:  # an index of a list or a key of a map
            annotation, metadata = get_args(annotation)[-1], []
            continue
        annotation, metadata = field.annotation, field.metadata
        path.append(part)  # type: ignore[arg-type]
        nested = inner(annotation)
        if nested is not None and index + 1 < len(location):
            struct = nested
    given = error["input"]
    own = wrong_text(metadata)
    if own:
        raw = (
            given.text
            if isinstance(given, Fraction)
            else json.dumps(given, separators=(",", ":"), default=lambda one: float(one.text))
        )
        own = own.format(raw=raw, quoted=go_quote(raw))
    if "error" in error.get("ctx", {}):  # a validator's own words
        own = str(error["ctx"]["error"])
    owner = owner_of(model, path[0])
    names = [struct.go_name, *([owner] if owner else []), *path]
    return Place(".".join(names), go_type(annotation, metadata), own, given)


def owner_of(model: type[Wire], name: str) -> str:
    """The embedded struct that brings a field in, if it isn't the model's own."""
    for base in model.__mro__[1:]:
        if issubclass(base, Wire) and name in get_annotations(base):
            return base.go_name
    return ""


NUMBERS = {"int", "int64", "int32", "uint64", "time.Duration"}


def go_type(annotation: Any, metadata: list[Any]) -> str:
    """The name of a field's type in Go."""
    for item in (*metadata, *get_args(annotation)):
        if isinstance(item, Go):
            return item.type
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is list:
        return "[]" + go_type(args[0], [])
    if origin is dict:
        return "map[string]" + go_type(args[1], [])
    message = inner(annotation)
    if message is not None:
        return f"server.{message.go_name}"
    return "string" if annotation is str else "bool" if annotation is bool else "int"
