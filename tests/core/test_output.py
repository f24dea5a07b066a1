"""What the engine gives to be written: memory on loan that stays as it is for as long as somebody holds it."""

from __future__ import annotations

import gc

from streamd import _engine


def _opened(engine: _engine.Engine, greeting: bytes) -> bytes | memoryview:
    engine.open(object(), "A", greeting)
    turn = engine.flush()
    assert turn is not None
    ((_owner, output),) = turn[0]
    return output


def test_large_output_is_a_view_and_small_output_is_bytes() -> None:
    """Nobody can write to either."""
    engine = _engine.Engine()

    small, large = _opened(engine, b"x" * 100), _opened(engine, b"y" * 100_000)

    assert small == b"x" * 100
    assert isinstance(large, memoryview)
    assert large.readonly
    assert large == b"y" * 100_000


def test_a_view_stays_as_it_was() -> None:
    """While others come and go, beyond the engine's end, and in slices, which are what a transport keeps."""
    engine = _engine.Engine()
    held: list[tuple[bytes | memoryview, bytes]] = []
    for number in range(100):
        text = bytes([number]) * (50_000 + 1_000 * number)
        output = _opened(engine, text)
        if number % 3 == 0:
            held.append((output[number:], text[number:]))
        del output

    del engine
    gc.collect()

    assert all(output == text for output, text in held)
