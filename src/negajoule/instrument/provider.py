"""Who serves a model: told by the model's maker or by the server's address, never by asking the network."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

__all__ = ["is_on_site", "provider_of_model", "provider_of_url"]

_MAKERS = (
    ("openai", re.compile(r"(?:openai/)?(?:gpt-(?!oss|j|neo|2)|chatgpt|o[134](?:-|$))")),
    ("anthropic", re.compile(r"(?:(?:us\.|eu\.|apac\.|global\.)?anthropic[./])?claude")),
    ("google", re.compile(r"(?:google/|models/)?gemini")),
)
_HOSTS = (
    ("azure", (".azure.com", ".azure.us", ".azure-api.net")),
    ("aws", (".amazonaws.com",)),
    ("openai", ("api.openai.com",)),
    ("anthropic", ("api.anthropic.com",)),
    ("google", (".googleapis.com",)),
    ("mistral", ("api.mistral.ai",)),
    ("cohere", ("api.cohere.com", "api.cohere.ai")),
    ("huggingface", (".huggingface.co", ".huggingface.cloud")),
)


@lru_cache(maxsize=1024)
def provider_of_model(model: str) -> str | None:
    """The maker of a closed model, who serves it or has it served; ``None`` for those anyone may serve."""
    name = model.strip().lower()
    return next((maker for maker, pattern in _MAKERS if pattern.match(name)), None)


def provider_of_url(url: str) -> str | None:
    """The provider whose name is in a server's address; ``None`` if none is known by it."""
    host = _host(url)
    return next((name for name, ends in _HOSTS if f".{host}".endswith(_suffixes(ends))), None)


def is_on_site(url: str) -> bool:
    """Whether a server is on this machine or in a private network, so that it stands where you are."""
    host = _host(url)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bool(host) and (
            "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan"))
        )
    return address.is_loopback or address.is_private or address.is_link_local


def _suffixes(ends: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(end if end.startswith(".") else f".{end}" for end in ends)


def _host(url: str) -> str:
    try:
        return (urlsplit(url if "//" in url else f"//{url}").hostname or "").rstrip(".").lower()
    except ValueError:
        return ""
