"""A short name for a long text: stable, and not to be turned back into the text."""

from __future__ import annotations

try:
    # What hashlib would hand out, without the OpenSSL that it loads first: 4 ms of every program's start.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

__all__ = ["fingerprint"]


def fingerprint(text: bytes, size_bytes: int = 12) -> str:
    """BLAKE2b (RFC 7693) of a text, in hexadecimal digits.

    Args:
        text: what is to be named.
        size_bytes: length of the hash; 12 makes a collision by chance impossible in practice.
    """
    return str(blake2b(text, digest_size=size_bytes).hexdigest())
