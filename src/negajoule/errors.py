"""The error tree: what was tried, what happens instead, what to do.

    NegajouleError                 every error a user can cause or meet
    ├── ConfigError           C    settings, options, environment
    ├── CatalogError          F    facts: unknown keys, malformed rows
    ├── UnitError             U    values that can't be combined, or that are no values at all
    ├── MeterError            M    counters and probes
    ├── EngineError           E    the embedded model and upstream servers
    ├── GridError             G    signals of the electricity grid
    ├── LedgerError           L    the store
    ├── RequestError          R    what a client of the gateway asked for
    ├── CompressError         K    smaller models: recipes, studies of before and after
    └── ExtraMissingError     X    an optional part that isn't installed

Every code used by the package stands in ``CODES``; ``negajoule explain M101`` prints its page.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CODES",
    "CatalogError",
    "CompressError",
    "ConfigError",
    "EngineError",
    "ExtraMissingError",
    "GridError",
    "LedgerError",
    "MeterError",
    "NegajouleError",
    "RequestError",
    "UnitError",
]

CODES: dict[str, str] = {
    "C101": "A setting has a value of the wrong type or outside its range.",
    "C102": "A configuration file can't be read or isn't valid TOML.",
    "C103": "A setting or option doesn't exist.",
    "C104": "The port is in use by another program.",
    "C105": "A command to be measured can't be started.",
    "C106": "An input file is missing or malformed.",
    "C107": "A budget can't be judged, because a figure that it counts isn't known.",
    "C108": "The server would be open to the network without an API key.",
    "C109": "An API key doesn't exist, or its name is taken or malformed.",
    "C110": "The file of API keys can't be read or written.",
    "C111": "The TLS certificate or its key can't be used.",
    "C112": "A model doesn't fit the memory of its accelerators.",
    "C113": "What is asked for lies too far outside what was measured.",
    "C114": "The machine is under load, so measuring it would measure the others.",
    "F101": "No fact has this key.",
    "F102": "A catalogue file holds a malformed row.",
    "U101": "Two values of different units can't be added, subtracted or compared.",
    "U102": "Two values of different boundaries can't be added or compared.",
    "U103": "A value isn't a finite number inside its own interval.",
    "U104": "A time series is malformed: times must rise, lengths must agree, values must be finite.",
    "M101": "No energy counter can be read; energy is modelled instead.",
    "M102": "An energy counter exists but can't be read.",
    "M104": "A measurement was used in the wrong order (stopped before it was started, or twice).",
    "M105": "A calibration didn't succeed; the coefficients stay as they were.",
    "M106": "A clock or power limit of an accelerator can't be set, read or undone.",
    "E101": "The model package or file is absent.",
    "E102": "The engine refused or failed.",
    "E103": "The upstream server can't be reached or broke off.",
    "E104": "The upstream server answered with something that isn't an OpenAI-style answer.",
    "G101": "A grid source can't be reached, refuses or is at its limit; the next source is used.",
    "G102": "A grid source's answer can't be trusted or doesn't cover the time; the next source is used.",
    "G103": "A grid source isn't set up for this place: no key, no region, or another country.",
    "L101": "The ledger can't be opened or written.",
    "L102": "The ledger file is corrupt or isn't a negajoule ledger.",
    "L103": "The ledger was written by a newer version of negajoule.",
    "L104": "A budget doesn't exist, or exists already.",
    "R101": "The request's body isn't valid JSON.",
    "R102": "A field of the request is missing or has the wrong type.",
    "R103": "The model isn't served here.",
    "R104": "The prompt doesn't fit the model's context window.",
    "R105": "The request's body is too large.",
    "R106": "No such page or method.",
    "R107": "The server is at its limit or shutting down; try again.",
    "R108": "A budget is used up, or too small for the request.",
    "R109": "A budget counts what isn't known of this request, so it can't be kept.",
    "R110": "The API key is missing, unknown, expired or revoked.",
    "R111": "This API key isn't allowed to do that, or a foreign web page sent the request.",
    "R112": "The request, or sending it, took too long.",
    "R113": "The request isn't sound HTTP, or its header is too large.",
    "R114": "The file or batch is in a state that doesn't allow that.",
    "K101": "A model can't be loaded, or isn't of a kind that the recipe works on.",
    "K102": "Labelled texts can't be used: one class only, no text, or labels that the model doesn't know.",
    "K103": "A recipe is malformed or doesn't exist.",
    "K104": "Training diverged: its loss isn't a number.",
    "K105": "A compressed model doesn't give the same answers after it is loaded again.",
    "K106": "A worker process ran out of memory or broke off.",
    "K107": "Two measurements can't be compared: other data, length, batch or engine.",
    "X101": "An optional part isn't installed.",
}


class NegajouleError(Exception):
    """Base of all errors; prints without a traceback on the command line.

    Attributes:
        code: a key of ``CODES``.
        message: what went wrong, one sentence.
        tried: what was tried, if it helps.
        using: what happens instead, if anything does.
        fix: what the user can do.
    """

    default_code: ClassVar[str] = "C101"

    def __init__(
        self, message: str, *, code: str | None = None, tried: str = "", using: str = "", fix: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message
        self.tried = tried
        self.using = using
        self.fix = fix

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.message}"]
        lines += [
            f"  {label:<6} {text}"
            for label, text in (("tried", self.tried), ("using", self.using), ("fix", self.fix))
            if text
        ]
        return "\n".join(lines)


class ConfigError(NegajouleError):
    """A setting, option or environment variable is wrong."""

    default_code = "C101"


class CatalogError(NegajouleError):
    """A fact is unknown or a catalogue row malformed."""

    default_code = "F101"


class UnitError(NegajouleError, ValueError):
    """Values that can't be combined, or that aren't values."""

    default_code = "U101"


class MeterError(NegajouleError):
    """A probe failed in a way its caller must know about."""

    default_code = "M101"


class EngineError(NegajouleError):
    """The embedded engine or an upstream server failed.

    Attributes:
        status: the HTTP status that a gateway should answer with.
        retry_after_s: how long an upstream asks to be left alone [s]; ``None`` if it didn't say.
    """

    default_code = "E102"
    retry_after_s: float | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        tried: str = "",
        using: str = "",
        fix: str = "",
        status: int = 502,
    ) -> None:
        super().__init__(message, code=code, tried=tried, using=using, fix=fix)
        self.status = status


class GridError(NegajouleError):
    """A source of grid signals gave nothing that can be used; never leaves the room ``grid``.

    Attributes:
        retry_after_s: how long the source asks to be left alone [s]; ``None`` if it didn't say.
    """

    default_code = "G101"

    def __init__(
        self, message: str, *, code: str | None = None, fix: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, code=code, fix=fix)
        self.retry_after_s = retry_after_s


class LedgerError(NegajouleError):
    """The store can't be opened, read or written."""

    default_code = "L101"


class RequestError(NegajouleError):
    """A client of the gateway asked for something that can't be done.

    Attributes:
        status: the HTTP status of the answer.
        param: the field at fault, if one is.
        retry_after_s: when the same request may succeed [s from now]; ``None`` if that isn't known.
    """

    default_code = "R102"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int = 400,
        param: str | None = None,
        fix: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, fix=fix)
        self.status = status
        self.param = param
        self.retry_after_s = retry_after_s


class CompressError(NegajouleError):
    """A model can't be made smaller, or the comparison of before and after isn't fair."""

    default_code = "K101"


class ExtraMissingError(NegajouleError, ImportError):
    """An optional part isn't installed."""

    default_code = "X101"
