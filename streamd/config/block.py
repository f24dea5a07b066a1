"""What every block of settings is made of: the base of the models, units, and bounds."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS

Port = Annotated[int, Field(ge=-1, le=65535)]
Bytes = Annotated[int, Field(ge=1)]
Nanoseconds = Annotated[int, Field(ge=0)]
# -1 and 0 both say "no limit" somewhere in the field's files.
Limit = Annotated[int, Field(ge=-1)]


class Block(BaseModel):
    """What all blocks share: frozen, strict, no unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)
