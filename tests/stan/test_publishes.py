"""Batches on their way into a channel that is deleted, or has been made anew, while they wait."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from streamd.stan.publishes import Publishes


def channel(name: str, *, going: bool = False) -> Any:
    return SimpleNamespace(name=name, going=going, stream=f"stream of {name}", new=not going)


def publishes(by_name: dict[str, Any]) -> tuple[Any, list[Any]]:
    """With nothing in its tap, and the calls for channels that aren't there."""
    asked: list[Any] = []
    binding = SimpleNamespace(take=lambda limit: None, account="$G")
    bus: Any = SimpleNamespace(collect=lambda subjects, ready: binding)
    commits: Any = SimpleNamespace(ready=lambda source: None, in_flight=False)
    channels: Any = SimpleNamespace(by_name=by_name, open=lambda name, then: asked.append(then))
    nothing: Any = SimpleNamespace(count=lambda more: None)
    return Publishes(bus, commits, commits, channels, nothing, nothing, ahead=True), asked


def test_a_batch_for_a_channel_that_was_made_anew_goes_there() -> None:
    old, new = channel("foo", going=True), channel("foo")
    source, _asked = publishes({"foo": new})
    batches: list[Any] = [SimpleNamespace(number=number) for number in range(3)]
    source._staged.extend([(1, old, batches[0]), (2, channel("bar"), batches[1])])

    assert source.take(0) == [("stream of bar", batches[1])]
    source._staged.append((3, new, batches[2]))
    assert source.take(0) == [("stream of foo", batches[0])]
    assert source.take(0) == [("stream of foo", batches[2])]
    assert source.take(0) == []


def test_a_batch_for_a_channel_that_is_being_deleted_waits_for_the_next_one() -> None:
    old = channel("foo", going=True)
    source, asked = publishes({"foo": old})
    batch: Any = SimpleNamespace()
    source._staged.append((1, old, batch))

    assert source.take(0) == []
    assert source._outstanding() == 1, "a barrier still waits for it"
    (then,) = asked
    then(channel("foo"), "")
    assert source.take(0) == [("stream of foo", batch)]
