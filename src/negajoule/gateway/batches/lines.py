"""What a batch's file asks for: one JSON object a line, checked before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Asked", "Line", "body_of", "read_lines"]

_MOST_ERRORS = 50


class _Entry(msgspec.Struct):
    custom_id: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    url: str
    body: msgspec.Raw
    method: Literal["POST"] = "POST"


_DECODER = msgspec.json.Decoder(_Entry)


class Line(NamedTuple):
    """A line, by its place in the file [bytes]."""

    number: int
    custom_id: str
    offset: int
    length: int


class Asked(NamedTuple):
    """What a file asks for.

    Attributes:
        lines: in the file's order; none if anything is wrong.
        errors: what is wrong, as OpenAI shows it.
    """

    lines: list[Line]
    errors: list[dict[str, Any]]


def read_lines(path: Path, endpoint: str, *, most_lines: int, most_bytes: int) -> Asked:
    """Read and check a file; may take seconds.

    Args:
        path: the file.
        endpoint: what all lines must ask.
        most_lines: most lines that are allowed.
        most_bytes: largest line that is allowed.
    """
    lines: list[Line] = []
    errors: list[dict[str, Any]] = []
    seen: set[str] = set()
    offset = 0

    def wrong(code: str, number: int | None, message: str, param: str | None = None) -> None:
        if len(errors) < _MOST_ERRORS:
            errors.append({"code": code, "line": number, "message": message, "param": param})

    with path.open("rb") as file:
        for number, raw in enumerate(iter(lambda: file.readline(most_bytes + 1), b""), 1):
            begin, offset = offset, offset + len(raw)
            if len(raw) > most_bytes:
                wrong("line_too_large", number, f"the line is larger than {most_bytes} bytes")
                break
            if not raw.strip():
                continue
            if len(lines) >= most_lines:
                wrong("too_many_lines", number, f"the file has more than {most_lines} lines")
                break
            try:
                entry = _DECODER.decode(raw)
            except msgspec.ValidationError as error:
                wrong("invalid_line", number, str(error))
                continue
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                wrong("invalid_json_line", number, f"the line isn't valid JSON: {error}")
                continue
            if entry.url != endpoint:
                wrong("mismatched_url", number, f"the line asks {entry.url[:100]}, not {endpoint}", "url")
            elif not bytes(entry.body).startswith(b"{"):
                wrong("invalid_line", number, "the body must be an object", "body")
            elif entry.custom_id in seen:
                wrong("duplicate_custom_id", number, f"the id {entry.custom_id!r} came before", "custom_id")
            else:
                seen.add(entry.custom_id)
                lines.append(Line(number, entry.custom_id, begin, len(raw)))
    if not lines and not errors:
        wrong("empty_file", None, "the file has no lines")
    return Asked([] if errors else lines, errors)


def body_of(path: Path, line: Line) -> bytes:
    """The body of a line."""
    with path.open("rb") as file:
        file.seek(line.offset)
        return bytes(_DECODER.decode(file.read(line.length)).body)
