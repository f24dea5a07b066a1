"""Whether a stream or consumer is stored yet: who asks for the same one meanwhile is answered when it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.api.errors import ApiError

    Then = Callable[[ApiError | None], None]


class Made:
    """Of what was found in the store, or needs none, from the beginning."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Then] | None = None

    def begin(self) -> None:
        """It is being stored."""
        self._waiting = []

    def when(self, then: Then) -> None:
        """Call once it is stored, or couldn't be; at once if it is."""
        if self._waiting is None:
            then(None)
        else:
            self._waiting.append(then)

    def end(self, error: ApiError | None) -> None:
        """It is stored, or couldn't be."""
        waiting, self._waiting = self._waiting or [], None
        for then in waiting:
            then(error)
