"""Anthropic Messages, both ways.

- ``upstream_request``: an OpenAI request for an Anthropic upstream
- ``upstream_answer``: an Anthropic answer for an OpenAI client
- ``client_request``: an Anthropic client's request for an OpenAI upstream
- ``client_answer``: an OpenAI answer for an Anthropic client
"""

from negajoule.gateway.adapters.anthropic.client_answer import ClientEvents, client_answer
from negajoule.gateway.adapters.anthropic.client_request import openai_request
from negajoule.gateway.adapters.anthropic.upstream_answer import OpenAIChunks, openai_answer
from negajoule.gateway.adapters.anthropic.upstream_request import (
    DEFAULT_MAX_TOKENS,
    JSON_TOOL,
    upstream_request,
)

__all__ = [
    "DEFAULT_MAX_TOKENS",
    "JSON_TOOL",
    "ClientEvents",
    "OpenAIChunks",
    "client_answer",
    "openai_answer",
    "openai_request",
    "upstream_request",
]
