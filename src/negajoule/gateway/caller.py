"""Who asks: the holder of an API key, or anybody where no key is needed.

The caller is set for every request at the door, before anything else runs, so that nothing can leak from one
request of a connection to the next. Tasks made on behalf of a request inherit it.
"""

from __future__ import annotations

from contextvars import ContextVar

import msgspec

from negajoule.errors import RequestError

__all__ = ["ANYBODY", "CALLER", "SCOPES", "Caller"]

SCOPES: tuple[str, ...] = ("chat", "completions", "embeddings", "models", "admin")
"""What a key may be allowed: tasks, the list of models, and the operator's pages."""


class Caller(msgspec.Struct, frozen=True):
    """Who a request is made for.

    Attributes:
        name: name of the key; empty for anybody.
        team: the key's team.
        project: the key's project.
        scopes: what it may do.
        models: names of the models it may ask; one that ends in ``*`` allows all that begin so. Empty: all.
    """

    name: str = ""
    team: str = ""
    project: str = ""
    scopes: frozenset[str] = frozenset(SCOPES)
    models: tuple[str, ...] = ()

    def may_ask(self, model: str) -> bool:
        """Whether it may ask a model of that name."""
        if not self.models:
            return True
        return any(
            model.startswith(allowed[:-1]) if allowed.endswith("*") else model == allowed
            for allowed in self.models
        )

    def check_model(self, model: str) -> None:
        """Refuse a model that the key isn't for.

        Raises:
            RequestError: (R111) with status 403.
        """
        if not self.may_ask(model):
            raise RequestError(
                f"this API key may not ask the model {model!r}",
                code="R111",
                status=403,
                param="model",
                fix="GET /v1/models lists those it may",
            )

    def may_see(self, caller_name: str) -> bool:
        """Whether it may see what a request of that caller cost."""
        return "admin" in self.scopes or caller_name == self.name


ANYBODY = Caller()
"""The caller where no key is needed."""

CALLER: ContextVar[Caller] = ContextVar("negajoule_caller", default=ANYBODY)
"""The caller of the request under way."""
