"""The provider's name in OpenTelemetry's conventions, from the address that a client talks to."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

__all__ = ["provider_name"]

_BY_HOST = (
    ("api.openai.com", "openai"),
    (".api.openai.com", "openai"),
    (".openai.azure.com", "azure.ai.openai"),
    (".cognitiveservices.azure.com", "azure.ai.openai"),
    (".azure.com", "azure.ai.inference"),
    ("api.anthropic.com", "anthropic"),
    (".amazonaws.com", "aws.bedrock"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    (".googleapis.com", "gcp.vertex_ai"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.x.ai", "x_ai"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.perplexity.ai", "perplexity"),
    ("api.moonshot.ai", "moonshot_ai"),
)


@lru_cache(maxsize=256)
def provider_name(url: str, flavour: str) -> str:
    """``gen_ai.provider.name`` of a server.

    Args:
        url: its address.
        flavour: whose interface it speaks; names a server that isn't known, as the conventions ask.
    """
    try:
        host = (urlsplit(url).hostname or "").lower()
    except ValueError:
        host = ""
    for ending, name in _BY_HOST:
        if host == ending or (ending[0] == "." and host.endswith(ending)):
            return name
    return flavour
