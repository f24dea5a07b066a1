"""Calls between nodes whose answers may be big: they come in pieces."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamd.clock import Clock
    from streamd.raft.net import Net, NodeId

PIECE_BYTES: Final = 1 << 20
PIECE: Final = "piece"
TIMEOUT_NS: Final = 5_000_000_000
#: An answer is kept for whoever fetches it since the last piece was asked for.
KEEP_NS: Final = 15_000_000_000
#: What comes first: the answer's number, 0 if it is whole, and its size; then its beginning.
_HEAD: Final = struct.Struct("<QQ")
_WHERE: Final = struct.Struct("<QQ")


class Pieces:
    """Both ends of such calls."""

    def __init__(self, net: Net, clock: Clock) -> None:
        self._net = net
        self._clock = clock
        self._kept: dict[int, tuple[bytes, int]] = {}  # by number, with when it was used
        self._number = 0
        net.serve(PIECE, self._serve_piece)

    def serve(self, what: str, handler: Callable[[bytes, Callable[[bytes], None]], None]) -> None:
        """Who answers a kind of call."""

        def called(_node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
            handler(payload, lambda found: answer(self._first(found)))

        self._net.serve(what, called)

    def _first(self, found: bytes) -> bytes:
        now_ns = self._clock.monotonic_ns()
        for number in [number for number, (_, used_ns) in self._kept.items() if used_ns < now_ns - KEEP_NS]:
            del self._kept[number]
        if len(found) <= PIECE_BYTES:
            return _HEAD.pack(0, len(found)) + found
        self._number += 1
        self._kept[self._number] = (found, now_ns)
        return _HEAD.pack(self._number, len(found)) + found[:PIECE_BYTES]

    def _serve_piece(self, _node: NodeId, payload: bytes, answer: Callable[[bytes], None]) -> None:
        number, start = _WHERE.unpack(payload)
        kept = self._kept.get(number)
        if kept is None:
            answer(b"")
            return
        found, _ = kept
        if start + PIECE_BYTES >= len(found):
            del self._kept[number]
        else:
            self._kept[number] = (found, self._clock.monotonic_ns())
        answer(found[start : start + PIECE_BYTES])

    def call(
        self,
        to: NodeId,
        what: str,
        payload: bytes,
        done: Callable[[bytes | None], None],
        *,
        timeout_ns: int = TIMEOUT_NS,
    ) -> None:
        """Ask a node; `done` with the whole answer, or None. `timeout_ns`: for each piece."""
        parts: list[bytes] = []

        def first(answer: bytes | None) -> None:
            if answer is None or len(answer) < _HEAD.size:
                done(None)
                return
            number, size = _HEAD.unpack_from(answer)
            parts.append(answer[_HEAD.size :])
            more(number, size)

        def more(number: int, size: int) -> None:
            have = sum(map(len, parts))
            if have >= size:
                done(b"".join(parts))
                return

            def came(answer: bytes | None) -> None:
                if not answer:
                    done(None)
                    return
                parts.append(answer)
                more(number, size)

            self._net.call(to, PIECE, _WHERE.pack(number, have), came, timeout_ns=timeout_ns)

        self._net.call(to, what, payload, first, timeout_ns=timeout_ns)
