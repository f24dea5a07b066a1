"""What is wrong with a configuration, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamd.errors import StreamdError

if TYPE_CHECKING:
    from streamd.config.tree import Position


class ConfigError(StreamdError):
    """A configuration that can't be used; its text is for the person who wrote it.

    Shapes:  str() is `FILE:LINE:COLUMN: text`, or the bare text where no place is known; several
             problems of one file stand on a line each.
    """

    def __init__(self, text: str, position: Position | None = None) -> None:
        self.text = text
        self.position = position
        super().__init__(f"{position}: {text}" if position is not None else text)


class SettingError(ValueError):
    """A rule between several settings is broken. Shapes: `setting` is the path of fields to the one to change."""

    def __init__(self, text: str, *setting: str) -> None:
        super().__init__(text)
        self.setting = setting
