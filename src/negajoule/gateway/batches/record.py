"""A file and a batch, as they are kept and as clients see them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from negajoule.errors import RequestError

if TYPE_CHECKING:
    from negajoule.config import Settings

__all__ = ["ENDED", "ENDPOINTS", "Batch", "BatchLimits", "Counts", "Status", "StoredFile", "window_s"]

Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]

ENDED: frozenset[str] = frozenset({"failed", "completed", "expired", "cancelled"})
"""Batches of these do nothing any more."""

ENDPOINTS: tuple[str, ...] = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
"""What a batch's lines can ask."""

_WINDOW = re.compile(r"(\d{1,4})(min|h|d)")
_SECONDS = {"min": 60, "h": 3600, "d": 86_400}
_LONGEST_WINDOW_S = 7 * 86_400


class BatchLimits(NamedTuple):
    """Limits, each a setting of the same name with ``batch_`` before it.

    Attributes:
        file_bytes: largest file.
        store_bytes: most bytes of all files together.
        lines: most lines of a batch.
        at_once: lines that run at once, of all batches together.
        keep_days: days after which files and batches are deleted [d].
    """

    file_bytes: int = 209_715_200
    store_bytes: int = 2_147_483_648
    lines: int = 50_000
    at_once: int = 64
    keep_days: float = 30.0

    @classmethod
    def of(cls, settings: Settings) -> BatchLimits:
        """The limits that are set."""
        return cls(*(settings[f"batch_{name}"] for name in cls._fields))


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file.

    Attributes:
        id: its id.
        owner: name of the key that it came with; empty where none was needed.
        filename: as its owner calls it.
        purpose: ``batch`` or ``batch_output``.
        size: its size [bytes].
        created_s: when it came, seconds since the epoch [s].
        expires_s: when it is deleted, seconds since the epoch [s].
    """

    id: str
    owner: str
    filename: str
    purpose: str
    size: int
    created_s: int
    expires_s: int

    def to_dict(self) -> dict[str, Any]:
        """As OpenAI shows it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.size,
            "created_at": self.created_s,
            "expires_at": self.expires_s,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


class Counts(NamedTuple):
    """How many lines there are, were answered, and ended in errors."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch.

    Attributes:
        id: its id.
        owner: name of the key that made it; its budgets and models count when lines run.
        endpoint: what its lines ask.
        input_file_id: the file with the lines.
        window: the time it has, as its owner put it.
        created_s: when it was made, seconds since the epoch [s].
        expires_s: when its window ends, seconds since the epoch [s].
        status: how far it is.
        at_s: when it reached each status, seconds since the epoch [s].
        metadata: what its owner wants to remember.
        errors: what was wrong with its file.
        counts: its lines, once it has ended.
    """

    id: str
    owner: str
    endpoint: str
    input_file_id: str
    window: str
    created_s: int
    expires_s: int
    status: Status = "validating"
    at_s: dict[str, int] = msgspec.field(default_factory=dict)
    metadata: dict[str, str] | None = None
    errors: list[dict[str, Any]] = msgspec.field(default_factory=list)
    counts: Counts = Counts()

    @property
    def output_id(self) -> str:
        """Id of the file with the answers."""
        return f"file-{self.id.partition('-')[2]}-output"

    @property
    def error_id(self) -> str:
        """Id of the file with the lines that ended in errors."""
        return f"file-{self.id.partition('-')[2]}-errors"

    @property
    def ended(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.status in ENDED

    def now(self, status: Status, at_s: float, **changed: Any) -> Batch:  # noqa: ANN401 (any attribute)
        """The batch in another status."""
        return msgspec.structs.replace(self, status=status, at_s={**self.at_s, status: int(at_s)}, **changed)

    def to_dict(self, counts: Counts) -> dict[str, Any]:
        """As OpenAI shows it, with its lines as they are now."""
        done = self.status in ("completed", "expired", "cancelled")
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": self.window,
            "status": self.status,
            "output_file_id": self.output_id if done and counts.completed else None,
            "error_file_id": self.error_id if done and counts.failed else None,
            "created_at": self.created_s,
            "expires_at": self.expires_s,
            **{
                f"{status}_at": self.at_s.get(status)
                for status in (
                    "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled",
                )
            },
            "request_counts": counts._asdict(),
            "metadata": self.metadata,
        }  # fmt: skip


def window_s(text: str) -> int:
    """The length of a window [s].

    Raises:
        RequestError: (R102) if it can't be read or is longer than a week.
    """
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 60 <= seconds <= _LONGEST_WINDOW_S:
        raise RequestError(
            f"a completion_window of {text[:40]!r} can't be",
            param="completion_window",
            fix="24h, 90min or 7d",
        )
    return seconds
