"""Other dialects than OpenAI's chat completions: pure translation, no connections.

- ``anthropic``: Anthropic Messages, both ways
- ``gemini``: Gemini's generateContent, both ways
- ``responses``: OpenAI's Responses API over chat completions
- ``embeddings``: requests and answers of embeddings
- ``errors``: every dialect's errors
- ``provider``: where each provider listens, as data
- ``asked``: what an OpenAI request asks for
- ``frame``: what every OpenAI chunk repeats
- ``usage``: token counts
- ``events``: events of a stream
- ``reading``: reading JSON that somebody else wrote
"""

from negajoule.gateway.adapters import anthropic, gemini, responses
from negajoule.gateway.adapters.embeddings import (
    EmbeddingsCall,
    embeddings_answer,
    in_encoding,
    parse_embeddings,
)
from negajoule.gateway.adapters.errors import (
    Dialect,
    anthropic_error,
    error_in_stream,
    gemini_error,
    refusal,
)
from negajoule.gateway.adapters.events import (
    ClientStream,
    UpstreamStream,
    decode_event,
    named_event,
    unnamed_event,
)
from negajoule.gateway.adapters.frame import Frame
from negajoule.gateway.adapters.provider import PROVIDERS, Provider, find_provider, listed_models
from negajoule.gateway.adapters.reading import Translated
from negajoule.gateway.adapters.usage import Usage, count_of

__all__ = [
    "PROVIDERS",
    "ClientStream",
    "Dialect",
    "EmbeddingsCall",
    "Frame",
    "Provider",
    "Translated",
    "UpstreamStream",
    "Usage",
    "anthropic",
    "anthropic_error",
    "count_of",
    "decode_event",
    "embeddings_answer",
    "error_in_stream",
    "find_provider",
    "gemini",
    "gemini_error",
    "in_encoding",
    "listed_models",
    "named_event",
    "parse_embeddings",
    "refusal",
    "responses",
    "unnamed_event",
]
