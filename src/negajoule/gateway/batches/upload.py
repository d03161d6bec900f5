"""A file on its way in: multipart/form-data, written to disk as it comes, never larger than allowed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from negajoule.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Upload"]

_FIELD_BYTES = 1024
_MOST_FIELDS = 16
_NAME_LENGTH = 255


class Upload:
    """Takes a form's bytes, writes its file and keeps its other fields.

    Args:
        content_type: the header.
        path: where the file goes; it must not be there yet.
        limit_bytes: its largest size.

    Attributes:
        fields: the other fields.
        filename: the file's name; ``None`` until it comes.

    Raises:
        RequestError: (R102) if the body isn't a form, (R105) if the file is too large; so do ``write`` and
            ``finish``.
    """

    def __init__(self, content_type: str, path: Path, limit_bytes: int) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise RequestError(
                "a file is sent as multipart/form-data",
                fix="curl -F purpose=batch -F file=@requests.jsonl URL",
            )
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._limit_bytes = limit_bytes
        self._size = 0
        self._name = ""
        self._is_file = self._whole = False
        self._value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._header, self._header_value = bytearray(), bytearray()
        self._parser = self._made(boundary)
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)

    def write(self, data: bytes) -> None:
        """Take what has come."""
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise RequestError(f"the form can't be read: {error}") from None

    def finish(self) -> None:
        """All has come; the file is safe when this returns."""
        if not self._whole:
            raise RequestError("the form breaks off")
        if self.filename is None:
            raise RequestError("the form has no file", param="file")
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _made(self, boundary: bytes) -> MultipartParser:
        callbacks: dict[str, Any] = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }
        return MultipartParser(boundary, callbacks)  # type: ignore[arg-type]

    def _begin(self) -> None:
        self._headers, self._is_file, self._name = {}, False, ""
        self._value.clear()

    def _header_end(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._header_value)
        self._header.clear()
        self._header_value.clear()

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name == "file":
            if self.filename is not None:
                raise RequestError("the form has more than one file", param="file")
            self._is_file = True
            self.filename = _plain(options.get(b"filename", b""))
        elif len(self.fields) >= _MOST_FIELDS:
            raise RequestError(f"the form has more than {_MOST_FIELDS} fields")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._size += end - start
            if self._size > self._limit_bytes:
                raise RequestError(
                    f"the file is larger than {self._limit_bytes} bytes, or there is no more room",
                    code="R105",
                    status=413,
                    param="file",
                )
            view = memoryview(data)[start:end]
            while view:
                view = view[os.write(self._file, view) :]
        else:
            self._value += data[start:end]
            if len(self._value) > _FIELD_BYTES:
                raise RequestError("a field of the form is too long", param=self._name[:64])

    def _end(self) -> None:
        if not self._is_file:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _all(self) -> None:
        self._whole = True


def _plain(name: bytes) -> str:
    """A file's name without folders and without what can't be printed."""
    last = name.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:_NAME_LENGTH] or "file.jsonl"
