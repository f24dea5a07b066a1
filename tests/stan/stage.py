"""Where a scenario plays: a server, a client library, and names that no other scenario of the same server uses."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.stan.program import Connection, Language, Program, Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from tests.stan.servers import StanServer

#: What the server that most scenarios share is told: more channels than the usual 100, and channels of few messages.
SHARED = """
store_limits {
  max_channels: 0
  channels {
    "few.>": { max_msgs: 3 }
    "short.>": { max_age: "1s" }
  }
}
"""


class Stage:
    """One play. Guarantee: after the `with` no program of it runs."""

    def __init__(self, server: StanServer, language: Language, scenario: str, directory: Path) -> None:
        self.server = server
        self.language = language
        self._scenario = scenario
        self._directory = directory
        self._connections = 0
        self._open = ExitStack()
        self._first: Program | None = None

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def program(self) -> Program:
        """One more process with the library."""
        started = Program(self.language, self._directory)
        self._open.callback(started.close)
        return started

    def channel(self, name: str = "channel") -> str:
        """A channel of this scenario alone."""
        return f"{name}.{self.language.name}.{self._scenario}"

    def client(self, name: str) -> str:
        """A client id of this scenario alone."""
        return f"{name}-{self.language.name}-{self._scenario}"

    def connect(self, name: str = "me", program: Program | None = None, **options: Any) -> Connection:
        """Connect with a client id of this scenario. Errors: Refused with the library's text."""
        if program is None:
            program = self._first = self._first or self.program()
        self._connections += 1
        options.setdefault("client", self.client(name))
        return Connection(program, f"{name}{self._connections}", self.server.url, **options)


def refusal(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    """The text with which the library refuses a call. Errors: AssertionError if it doesn't."""
    try:
        call(*arguments, **options)
    except Refused as error:
        return str(error)
    raise AssertionError(f"{call} {arguments} {options} was not refused")


@dataclass(frozen=True)
class Scenario:
    """A play and the server it needs: None is the shared one, else a server of its own with these lines."""

    play: Callable[[Stage], None]
    streaming: str | None

    @property
    def name(self) -> str:
        """For test ids, client ids and channels."""
        return self.play.__name__


SCENARIOS: list[Scenario] = []


def scenario(
    streaming: str | None = None,
) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Add a play."""

    def add(play: Callable[[Stage], None]) -> Callable[[Stage], None]:
        SCENARIOS.append(Scenario(play, streaming))
        return play

    return add
