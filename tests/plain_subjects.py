"""The engine's subject functions in plain Python, for trees where the extension isn't built."""

from __future__ import annotations

from types import ModuleType


def subject_valid(subject: str, *, wildcards: bool) -> bool:
    """See streamd._engine."""
    tokens = subject.split(".")
    for index, token in enumerate(tokens):
        if not token or any(character in " \t\r\n\f\0" for character in token):
            return False
        if token == ">" and index + 1 < len(tokens):
            return False
        if token in ("*", ">") and not wildcards:
            return False
    return True


def subject_collides(first: str, second: str) -> bool:
    """See streamd._engine."""
    one, two = first.split("."), second.split(".")
    for left, right in zip(one, two, strict=False):
        if ">" in (left, right):
            return True
        if left != right and "*" not in (left, right):
            return False
    return len(one) == len(two)


def subject_subset(inner: str, outer: str) -> bool:
    """See streamd._engine."""
    one, two = inner.split("."), outer.split(".")
    for index, right in enumerate(two):
        if index >= len(one):
            return False
        if right == ">":
            return True
        if one[index] == ">" or (right not in ("*", one[index])):
            return False
    return len(one) == len(two)


def subject_matches(pattern: str, subject: str) -> bool:
    """See streamd._engine."""
    return subject_subset(subject, pattern)


def module() -> ModuleType:
    """A stand-in for streamd._engine."""
    made = ModuleType("streamd._engine")
    for function in (subject_valid, subject_collides, subject_subset, subject_matches):
        setattr(made, function.__name__, function)
    return made
