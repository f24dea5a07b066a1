"""What every answer has in common: its type first, then perhaps an error, then its own fields.

Source: JetStream API of nats-server 2.15.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from streamd.api.wire import ALWAYS, Wire, encode

if TYPE_CHECKING:
    from streamd.api.errors import ApiError

TYPE_PREFIX = "io.nats.jetstream.api.v1."


class Answer(Wire):
    """Base of all answers: `kind` is the type's name, `on_error` what stays beside an error."""

    kind: ClassVar[str]
    on_error: ClassVar[dict[str, Any]] = {}

    def wire(self) -> dict[str, Any]:
        """The answer with its type in front."""
        return {"type": TYPE_PREFIX + self.kind, **super().wire()}

    @classmethod
    def failure(cls, error: ApiError) -> bytes:
        """The error answer of this type."""
        return encode({"type": TYPE_PREFIX + cls.kind, "error": error.wire(), **cls.on_error})


PAGING: dict[str, Any] = {"total": 0, "offset": 0, "limit": 0}


class Paged(Answer):
    """An answer in pages."""

    on_error: ClassVar[dict[str, Any]] = PAGING

    total: Annotated[int, ALWAYS] = 0
    offset: Annotated[int, ALWAYS] = 0
    limit: Annotated[int, ALWAYS] = 0


class Done(Answer):
    """An answer that only says that it is done."""

    success: bool = True


class Unserved(Answer):
    """The answer of a subject that can only fail."""
