"""Where the server listens, and how it keeps others out: the socket, TLS, and the check that a key exists."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from negajoule.errors import ConfigError
from negajoule.gateway.door import is_loopback

if TYPE_CHECKING:
    from negajoule.config import Settings

__all__ = ["Certificate", "check_exposure", "listen", "url_of"]


class Certificate(NamedTuple):
    """A certificate in use; new connections get it anew once it was loaded again.

    Attributes:
        context: what connections are made with.
        path: file with the chain.
        key_path: file with the private key; ``None`` if it stands in the same file.
    """

    context: ssl.SSLContext
    path: str
    key_path: str | None

    @classmethod
    def of(cls, settings: Settings) -> Certificate | None:
        """The certificate that is set; ``None`` for a server without TLS.

        Raises:
            ConfigError: (C111) if it can't be used.
        """
        path, key_path = settings["tls_certificate"], settings["tls_key"]
        if path is None:
            if key_path is not None:
                raise ConfigError(
                    "tls_key is set without tls_certificate", code="C111", fix="set both, or neither"
                )
            return None
        certificate = cls(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), path, key_path)
        certificate.load()
        return certificate

    def load(self) -> None:
        """Read the files, at the start or after they were renewed.

        Raises:
            ConfigError: (C111) if they can't be read or don't belong together.
        """
        try:
            self.context.load_cert_chain(self.path, self.key_path, password=_refuse_password)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the TLS certificate can't be used: {error}",
                code="C111",
                tried=f"{self.path}, {self.key_path or 'key in the same file'}",
                fix="both files must be PEM, belong together and not be encrypted",
            ) from None


def check_exposure(host: str, *, has_keys: bool, insecure: bool) -> None:
    """Refuse to stand open to the network.

    Raises:
        ConfigError: (C108) unless only this machine can reach it, a key exists, or it is wanted.
    """
    if not (is_loopback(host) or has_keys or insecure):
        raise ConfigError(
            f"others can reach {host} and no API key exists: they could use the model and the upstream",
            code="C108",
            fix="negajoule keys create NAME, or --insecure where something else keeps others out",
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: (C104) if the address can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"can't listen on {host}:{port}: {error.strerror or error}",
            code="C104",
            fix=f"stop the other program, or choose another port: negajoule serve --port {port + 1}",
        ) from None
    return listener


def url_of(listener: socket.socket, certificate: Certificate | None) -> str:
    """The URL by which a listener is reached."""
    address, port = listener.getsockname()[:2]
    scheme = "http" if certificate is None else "https"
    return f"{scheme}://{f'[{address}]' if ':' in address else address}:{port}"


def _refuse_password() -> NoReturn:
    raise ValueError("the private key is encrypted")
