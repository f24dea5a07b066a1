"""What lets the former Python client of NATS run on Python 3.10 and newer, unmodified: `loop=` is dropped.

asyncio's functions and classes took their event loop as an argument until 3.9, and asyncio-nats-client gives it.
"""

from __future__ import annotations

import asyncio
import functools

for _name in ("gather", "open_connection", "sleep", "wait", "wait_for"):

    def _without_loop(function):
        @functools.wraps(function)
        def call(*args, loop=None, **kwargs):
            return function(*args, **kwargs)

        return call

    setattr(asyncio, _name, _without_loop(getattr(asyncio, _name)))

for _name in ("Event", "Lock", "Queue"):

    def _made_without_loop(former):
        class Made(former):
            def __init__(self, *args, loop=None, **kwargs):
                super().__init__(*args, **kwargs)

        Made.__name__ = former.__name__
        return Made

    setattr(asyncio, _name, _made_without_loop(getattr(asyncio, _name)))
