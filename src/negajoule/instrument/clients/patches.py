"""Put our functions in the place of a library's, once the library is imported, and take them out again.

A client library takes a second or more to import, so none is imported for the sake of being instrumented: a
module that isn't there yet is patched right after the program imports it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["Patches"]

_MISSING = object()


class Patches:
    """Functions in other people's classes.

    Args:
        report: told what couldn't be patched.
    """

    def __init__(self, report: Callable[[Exception], None]) -> None:
        self._report = report
        self._done: list[tuple[Any, str, Any, Any]] = []
        self._waiting: list[_Finder] = []

    def when_imported(self, module: str, patch: Callable[[ModuleType], None]) -> None:
        """Patch a module now if it's imported, else as soon as it is; errors are reported, not raised."""
        loaded = sys.modules.get(module)
        if loaded is not None:
            self._apply(patch, loaded)
            return
        finder = _Finder(module, lambda found: self._apply(patch, found))
        self._waiting.append(finder)
        sys.meta_path.insert(0, finder)

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:  # noqa: ANN401
        """Replace a function of a class by what is made of it.

        Raises:
            AttributeError: if the class doesn't define it.
        """
        before = vars(owner).get(name)
        if before is None:
            raise AttributeError(f"{owner.__module__}.{owner.__qualname__} has no {name}")
        self._set(owner, name, before, make(before))

    def add(self, owner: Any, name: str, value: object) -> None:  # noqa: ANN401 (any class)
        """Give a class something it doesn't have; what it has is left alone."""
        if name not in vars(owner):
            self._set(owner, name, _MISSING, value)

    def undo(self) -> None:
        """Take out what is still ours; what somebody else has wrapped since stays, or theirs would break."""
        for finder in self._waiting:
            if finder in sys.meta_path:
                sys.meta_path.remove(finder)
        for owner, name, before, new in reversed(self._done):
            if vars(owner).get(name) is not new:
                continue
            if before is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        self._done, self._waiting = [], []

    def _set(self, owner: Any, name: str, before: object, new: object) -> None:  # noqa: ANN401
        setattr(owner, name, new)
        self._done.append((owner, name, before, new))

    def _apply(self, patch: Callable[[ModuleType], None], module: ModuleType) -> None:
        try:
            patch(module)
        except Exception as error:
            self._report(error)


class _Finder:
    """Sits in front of the import system until one module has been imported."""

    def __init__(self, module: str, then: Callable[[ModuleType], None]) -> None:
        self._module = module
        self._then = then

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's ordinary spec, with a loader that patches at the end; ``None`` for other modules."""
        if name != self._module or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._then)  # type: ignore[assignment]
        return spec


class _Loader:
    """Another loader, and something to do after it."""

    def __init__(self, inner: Any, then: Callable[[ModuleType], None]) -> None:  # noqa: ANN401
        self._inner = inner
        self._then = then

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the inner loader offers)
        return getattr(self._inner, name)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then patch it."""
        self._inner.exec_module(module)
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        module.__loader__ = self._inner
        self._then(module)
