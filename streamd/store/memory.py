"""The records of a memory stream.

Guarantee:  the interface of `StreamLog`; staged changes hold at once, nothing survives the process.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING, Final

from streamd import limits
from streamd.store.log import key, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamd._engine import Records
    from streamd.store.work import Work

_TRIM_MIN: Final = 1024  # deleted keys at the front before the list of keys is cut


class MemoryLog:
    """A log in RAM."""

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self._keys: list[bytes] = []  # ascending; may name deleted records
        self._values: dict[bytes, bytes] = {}

    def append(self, work: Work, records: Records, *, shown: bool = False) -> None:
        fresh = dict(records)
        self._keys += fresh
        self._values.update(fresh)

    def delete(self, work: Work, keys: Sequence[bytes]) -> None:
        for name in keys:
            self._values.pop(name, None)
        self._shrink()

    def delete_range(self, work: Work, low: int, high: int) -> None:
        start, end = bisect_left(self._keys, key(low)), bisect_left(self._keys, key(high))
        for name in self._keys[start:end]:
            self._values.pop(name, None)
        del self._keys[start:end]

    def keep_from(self, work: Work, sequence: int) -> None:
        self.delete_range(work, 0, sequence)

    def read(
        self, from_seq: int, limit: int = limits.READ_RECORDS_MAX, bytes_max: int = limits.READ_BYTES_MAX
    ) -> list[bytes]:
        names = islice(self._keys, bisect_left(self._keys, key(from_seq)), None)
        return within(list(islice(filter(None, map(self._values.get, names)), limit)), bytes_max)

    def get(self, sequence: int) -> bytes | None:
        return self._values.get(key(sequence))

    def get_many(self, sequences: Sequence[int]) -> list[bytes | None]:
        return [self._values.get(key(sequence)) for sequence in sequences]

    def _shrink(self) -> None:
        """Forget the keys of deleted records once they are the greater part."""
        if len(self._keys) > 2 * len(self._values) + _TRIM_MIN:
            self._keys = list(self._values)
