"""Gemini's generateContent and streamGenerateContent, both ways.

- ``upstream_request``: an OpenAI request for a Gemini upstream
- ``upstream_answer``: a Gemini answer for an OpenAI client
- ``client_request``: a Gemini client's request for an OpenAI upstream
- ``client_answer``: an OpenAI answer for a Gemini client
- ``listing``: a model as Gemini lists it
- ``names``: names that both directions need
"""

from negajoule.gateway.adapters.gemini.client_answer import ClientEvents, client_answer
from negajoule.gateway.adapters.gemini.client_request import Target, openai_request, target_of
from negajoule.gateway.adapters.gemini.listing import listed_model
from negajoule.gateway.adapters.gemini.upstream_answer import OpenAIChunks, openai_answer
from negajoule.gateway.adapters.gemini.upstream_request import upstream_request

__all__ = [
    "ClientEvents",
    "OpenAIChunks",
    "Target",
    "client_answer",
    "listed_model",
    "openai_answer",
    "openai_request",
    "target_of",
    "upstream_request",
]
