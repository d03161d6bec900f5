"""The one door to the network: a deadline that holds, a size limit, no detours.

The standard library's timeout is one of silence: a server that sends a byte now and then keeps a client
forever, and a name look-up isn't covered at all. So the work is done in a thread that is left behind when the
deadline passes.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import msgspec

from negajoule.errors import GridError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPResponse
    from urllib.error import HTTPError
    from urllib.request import OpenerDirector, Request

__all__ = ["MAX_BYTES", "Answer", "Fetch", "decoded", "fetch_url", "is_nearby"]

MAX_BYTES = 4 * 1024 * 1024
"""The largest answer that is read: ten days of hours are 0.1 MB."""

_T = TypeVar("_T")


class Answer(NamedTuple):
    """An HTTP answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fetch(Protocol):
    """Asks a URL."""

    def __call__(
        self, url: str, headers: Mapping[str, str], *, timeout_s: float, method: str = "GET"
    ) -> Answer:
        """The answer, whatever its status.

        Raises:
            GridError: (G101) if there is none in time, (G102) if it's too large.
        """


def fetch_url(url: str, headers: Mapping[str, str], *, timeout_s: float, method: str = "GET") -> Answer:
    """Ask a URL over HTTPS; plain HTTP only to this machine and to link-local addresses.

    Redirects are followed only where they stay on the same host and scheme: keys in headers must not travel.

    Args:
        url: what to ask.
        headers: headers to send.
        timeout_s: deadline for all of it, name look-up included [s].
        method: HTTP method.

    Raises:
        GridError: (G101) if there is no answer in time, (G102) if it's larger than ``MAX_BYTES``.
    """
    from urllib.parse import urlsplit
    from urllib.request import Request

    host = urlsplit(url).hostname or ""
    if not (url.startswith("https://") or (url.startswith("http://") and is_nearby(host))):
        raise GridError(f"{host or url} isn't asked: not https")
    request = Request(url, headers=dict(headers), method=method)
    outcome: list[Answer | GridError] = []
    deadline_s = time.monotonic() + timeout_s
    worker = threading.Thread(
        target=lambda: outcome.append(_ask(request, host, deadline_s)), daemon=True, name="negajoule-fetch"
    )
    worker.start()
    worker.join(timeout_s)
    if not outcome:
        raise GridError(f"{host} gave no answer within {timeout_s:g} s")
    if isinstance(outcome[0], GridError):
        raise outcome[0]
    return outcome[0]


def is_nearby(host: str) -> bool:
    """Whether a host is the numeric address of this machine or a link-local one."""
    from ipaddress import ip_address

    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_link_local


def decoded(answer: Answer, shape: type[_T], *, source: str) -> _T:
    """The answer's JSON in the shape that the source's documentation promises.

    Raises:
        GridError: (G101) for a status other than 200, with the time the source asks to be left alone; (G102)
            if the body isn't JSON of this shape.
    """
    if answer.status != 200:
        raise GridError(
            f"{source} answered with HTTP status {answer.status}{_MEANING.get(answer.status, '')}",
            fix="check the key and its plan" if answer.status in (401, 403) else "",
            retry_after_s=_retry_after_s(answer.headers.get("retry-after", "")),
        )
    try:
        return msgspec.json.decode(answer.body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GridError(
            f"{source} answered with something else than its documentation says: {error}", code="G102"
        ) from None


_MEANING = {
    401: ": it doesn't accept the key",
    403: ": the key's plan doesn't hold this",
    404: ": it doesn't know this place",
    429: ": too many questions",
}


def _ask(request: Request, host: str, deadline_s: float) -> Answer | GridError:
    from http.client import HTTPException
    from urllib.error import HTTPError

    # Longer than the deadline, which the caller keeps: it only frees the thread that was left behind.
    left_s = max(0.0, deadline_s - time.monotonic()) + 0.5
    try:
        try:
            with _opener(host).open(request, timeout=left_s) as response:
                return _read(response, deadline_s, host)
        except HTTPError as refusal:
            with refusal:
                return _read(refusal, deadline_s, host)
    except (OSError, HTTPException) as error:
        return GridError(f"{host} can't be reached: {getattr(error, 'reason', None) or error}")
    except ValueError:
        # urllib's answer to a redirect or header that's no text; its own words may hold a header's value.
        return GridError(f"{host} can't be asked: a redirect or header is malformed")


def _read(response: HTTPResponse | HTTPError, deadline_s: float, host: str) -> Answer | GridError:
    pieces: list[bytes] = []
    size = 0
    while piece := response.read1(65_536):
        size += len(piece)
        if size > MAX_BYTES:
            return GridError(f"{host} sends more than {MAX_BYTES} bytes", code="G102")
        if time.monotonic() > deadline_s:
            return GridError(f"{host} sends too slowly")
        pieces.append(piece)
    headers = {name.lower(): value for name, value in response.headers.items()}
    if headers.get("content-length", str(size)) != str(size):
        return GridError(f"{host} broke off within its answer")
    return Answer(response.status or 0, headers, b"".join(pieces))


def _opener(host: str) -> OpenerDirector:
    from urllib.parse import urlsplit
    from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

    class SameHost(HTTPRedirectHandler):
        def redirect_request(  # type: ignore[no-untyped-def]  # noqa: ANN202 (urllib's own signature)
            self,
            req: Request,
            fp,  # noqa: ANN001
            code: int,
            msg: str,
            headers,  # noqa: ANN001
            newurl: str,
        ):
            if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
                return None  # the answer is then the redirect itself, a status other than 200
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    # What's on this machine or its link is never behind a proxy.
    return build_opener(SameHost, ProxyHandler({})) if is_nearby(host) else build_opener(SameHost)


def _retry_after_s(text: str) -> float | None:
    """Seconds of a ``Retry-After`` header, given as seconds or as a date (RFC 9110, 10.2.3)."""
    if text.isascii() and text.isdigit():
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
