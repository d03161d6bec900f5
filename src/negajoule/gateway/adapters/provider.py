"""Where each provider listens and how it wants to be greeted, as data.

Sources: OpenAI API reference "Authentication"; Anthropic API "Getting started" (headers ``x-api-key`` and
``anthropic-version``); Gemini API reference "models.generateContent" (header ``x-goog-api-key``).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from negajoule.errors import ConfigError, RequestError
from negajoule.gateway.adapters.errors import Dialect
from negajoule.gateway.adapters.reading import malformed

__all__ = ["PROVIDERS", "Provider", "find_provider", "listed_models"]

_MODEL_IN_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]*(/[A-Za-z0-9][A-Za-z0-9._\-]*)*")


class Provider(msgspec.Struct, frozen=True):
    """A kind of upstream server.

    Attributes:
        name: what a setting calls it.
        dialect: how it speaks.
        base: where it listens unless a setting says otherwise.
        chat: path of plain answers, below the base; ``{model}`` stands for the model's name.
        stream: path of streamed answers.
        models: path of the list of models.
        embeddings: path of embeddings; ``None`` if it has none that we speak.
        responses: path of the Responses API; ``None`` if it speaks chat completions only.
        key_header: header that carries the key.
        key_prefix: what stands before the key in it.
        headers: further headers of every request.
        end_mark: whether streams end with ``[DONE]``; else with an event of their own, or just end.
    """

    name: str
    dialect: Dialect
    base: str
    chat: str
    stream: str
    models: str
    embeddings: str | None = None
    responses: str | None = None
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    headers: tuple[tuple[str, str], ...] = ()
    end_mark: bool = False

    def chat_path(self, model: str, *, stream: bool) -> str:
        """Path of an answer by a model.

        Raises:
            RequestError: R103 if the model's name would change the path.
        """
        path = self.stream if stream else self.chat
        if "{model}" not in path:
            return path
        name = model.removeprefix("models/")
        if not _MODEL_IN_PATH.fullmatch(name):
            raise RequestError(f"{model!r} can't be a model's name", code="R103", status=404, param="model")
        return path.replace("{model}", name)

    def greeting(self, key: str | None) -> dict[str, str]:
        """Headers of every request.

        Args:
            key: the provider's key; without one no key header is sent.
        """
        headers = {"content-type": "application/json", **dict(self.headers)}
        if key:
            headers[self.key_header] = f"{self.key_prefix}{key}"
        return headers


_ALL = (
    Provider(
        name="openai",
        dialect="openai",
        base="https://api.openai.com/v1",
        chat="/chat/completions",
        stream="/chat/completions",
        models="/models",
        embeddings="/embeddings",
        responses="/responses",
        end_mark=True,
    ),
    Provider(
        name="openai-compatible",
        dialect="openai",
        base="http://127.0.0.1:8000/v1",
        chat="/chat/completions",
        stream="/chat/completions",
        models="/models",
        embeddings="/embeddings",
        end_mark=True,
    ),
    Provider(
        name="anthropic",
        dialect="anthropic",
        base="https://api.anthropic.com/v1",
        chat="/messages",
        stream="/messages",
        models="/models",
        key_header="x-api-key",
        key_prefix="",
        headers=(("anthropic-version", "2023-06-01"),),
    ),
    Provider(
        name="gemini",
        dialect="gemini",
        base="https://generativelanguage.googleapis.com/v1beta",
        chat="/models/{model}:generateContent",
        stream="/models/{model}:streamGenerateContent?alt=sse",
        models="/models",
        key_header="x-goog-api-key",
        key_prefix="",
    ),
)
PROVIDERS: dict[str, Provider] = {entry.name: entry for entry in _ALL}
"""Every kind of upstream by its name."""


def find_provider(name: str) -> Provider:
    """The provider of a name.

    Raises:
        ConfigError: C101 if there is none.
    """
    found = PROVIDERS.get(name)
    if found is None:
        raise ConfigError(
            f"{name!r} is no kind of upstream", code="C101", fix=f"use one of {', '.join(PROVIDERS)}"
        )
    return found


def listed_models(dialect: Dialect, answer: object) -> list[dict[str, Any]]:
    """A provider's list of models as OpenAI lists them; what else it tells of them is kept.

    Raises:
        EngineError: E104 if it isn't a list of models.
    """
    field, name = ("models", "name") if dialect == "gemini" else ("data", "id")
    listed = answer.get(field) if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise malformed(dialect, "it holds no list of models")
    return [
        {**model, "id": model[name].removeprefix("models/"), "object": "model"}
        for model in listed
        if isinstance(model, dict) and isinstance(model.get(name), str)
    ]
