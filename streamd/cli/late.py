"""Modules that are loaded when something of them is used, not when somebody imports them.

Why:        asyncio and pydantic import what only TLS and unused features of theirs need: OpenSSL alone is 4 MiB of a server
            and a tenth of its start.
Guarantee:  whoever uses one finds it whole. Modules that are loaded already stay as they are.
Source:     importlib.util.LazyLoader, which loads as soon as a second module imports the same one.
"""

from __future__ import annotations

import sys
import threading
from importlib.machinery import PathFinder
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec

LATE: Final = frozenset(
    {
        "asyncio.sslproto",
        "base64",
        "calendar",
        "google.protobuf.internal.python_message",
        "hashlib",
        "hmac",
        "locale",
        "secrets",
        "shutil",
        "ssl",
        "tempfile",
    }
)
_LOADING: Final = threading.RLock()


class _Late(ModuleType):
    """A module that isn't there yet."""

    def __getattr__(self, name: str) -> Any:
        # Python asks for names like __path__ without wanting anything of the module.
        if name.startswith("__"):
            raise AttributeError(name)
        with _LOADING:
            # Not there any more while it loads: what it loads in turn may ask it for a name, as of any half loaded module.
            loader = self.__dict__.pop("_loader", None)
            if loader is not None:
                assert self.__spec__ is not None
                self.__spec__.loader = self.__loader__ = loader
                try:
                    loader.exec_module(self)
                except BaseException:
                    self._loader = loader  # whoever asks next hears the reason too
                    raise
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}") from None


class _Postponed:
    """Does nothing of what a loader does, and leaves that loader with the module."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Late(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["_loader"] = self._loader


class _Finder:
    """Finds late modules where all others are found."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in LATE else None
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Postponed(spec.loader))
        return spec


def load_late() -> None:
    """From now on; for the process whose command this is."""
    sys.meta_path.insert(0, cast("Any", _Finder))
    # Plugins of pydantic: it would look through every installed package for some.
    sys.modules.setdefault("pydantic.plugin._loader", cast("ModuleType", SimpleNamespace(get_plugins=lambda: ())))
