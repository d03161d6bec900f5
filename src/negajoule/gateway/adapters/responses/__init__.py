"""OpenAI's Responses API in front of servers that speak chat completions only, or the same.

- ``request``: a request as a chat request
- ``answer``: a chat answer as a response
- ``stream``: chat chunks as a response's events
- ``native``: a response's events as they are
"""

from negajoule.gateway.adapters.responses.answer import client_answer
from negajoule.gateway.adapters.responses.native import EitherEvents, NativeEvents
from negajoule.gateway.adapters.responses.request import openai_request
from negajoule.gateway.adapters.responses.stream import ClientEvents

__all__ = ["ClientEvents", "EitherEvents", "NativeEvents", "client_answer", "openai_request"]
