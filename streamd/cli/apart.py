"""A call in a child process, whose modules and garbage end with it.

Why:        a server keeps of its configuration a few hundred bytes, but reading it takes a parser, its tables and the schemas
            of models: 7 MiB that Python would keep for good. Beside it the parent can load what it needs itself.
Source:     fork(2).
"""

from __future__ import annotations

import os
import pickle
import traceback
from typing import TYPE_CHECKING

from streamd.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")


def apart(call: Callable[[], T], meanwhile: Callable[[], Any]) -> T:
    """What `call` returns, which pickles; `meanwhile` runs here. Only before the process has threads.

    Errors: ConfigError, as `call` raises it, and where the child ends without an answer.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os._exit(_answer(call, writer))
    os.close(writer)
    with open(reader, "rb") as pipe:
        meanwhile()
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:
        raise ConfigError("the configuration can't be read: the process that reads it has failed")
    value, text = pickle.loads(answer)
    if text is not None:
        raise ConfigError(text)
    result: T = value
    return result


def _answer(call: Callable[[], Any], writer: int) -> int:
    """The child's part. Returns its exit status; whatever happens, nothing of the parent's goes on in it."""
    try:
        answer: tuple[Any, str | None]
        try:
            answer = call(), None
        except ConfigError as error:
            answer = None, str(error)
        with open(writer, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
    except BrokenPipeError:
        return 1  # the parent was told to stop
    except BaseException as error:
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        return 1
    return 0
