"""Why a directory is not imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd.errors import StreamdError

if TYPE_CHECKING:
    from pathlib import Path


class ImportRefused(StreamdError):
    """The directory can't be imported as it is; the message names the file, the reason and the way out."""


class StoreDamaged(ImportRefused):
    """A file does not hold what the server wrote."""

    def __init__(self, path: Path, offset: int, found: str) -> None:
        """`offset` in bytes from the start of the file."""
        super().__init__(
            f"{path} is damaged at byte {offset} ({found}): restore it from a backup, "
            f"or import a copy of the directory without this part of it"
        )
        self.path = path
        self.offset = offset
