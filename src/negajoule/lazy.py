"""Names of a package that load their module when they are first used."""

TYPE_CHECKING = False  # as type checkers read it, without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = ["names_from"]


def names_from(package: "dict[str, Any]", homes: "Mapping[str, str]") -> "Callable[[str], Any]":
    """Make the ``__getattr__`` of a package (PEP 562).

    Args:
        package: the package's ``globals()``; what has been loaded is kept there.
        homes: the module of each name, relative to the package (``.journal``) or whole.
    """
    title = package["__name__"]

    def load(name: str) -> "Any":  # noqa: ANN401 (the face of many types)
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {title!r} has no attribute {name!r}")
        from importlib import import_module

        value = package[name] = getattr(import_module(home, title), name)
        return value

    return load
