"""What a flag is: a row of the tables in flags.py and stan_flags.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# A duration is Go's ("1h30m") and becomes nanoseconds, a size is the configuration's (1GB) and becomes bytes.
Kind = Literal["string", "integer", "switch", "duration", "size"]


@dataclass(frozen=True)
class Flag:
    """One flag: its names as usage shows them, the field of Config it sets, and its line of help."""

    names: tuple[str, ...]
    field: str
    kind: Kind
    help: str
    value: str = ""
    group: str = "Server"
    # Why it changes nothing, where it is only accepted.
    idle: str = ""

    @property
    def option(self) -> str:
        """The name click knows it by."""
        return "--" + self.field
