"""Settings: one table, one rule of precedence, and the origin of every value.

An argument beats the environment, which beats ``./negajoule.toml``, which beats ``config.toml`` in the data
folder, which beats the default.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SETTINGS", "TABLES", "Resolved", "Setting", "Settings", "home"]


class Setting(NamedTuple):
    """A setting: its name in files, its type and its meaning; ``None`` as default means "not set"."""

    name: str
    kind: type
    default: str | float | int | bool | None
    meaning: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"NEGAJOULE_{self.name.upper()}"


class Resolved(NamedTuple):
    """A value and where it came from."""

    value: Any
    origin: str


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("zone", str, None, "where the electricity is used: FR, FRA, US-CAL-CISO, world"),
        Setting("pue", float, None, "power usage effectiveness of the site, a number of at least 1"),
        Setting("wue", float, None, "water evaporated on site, in litres per kWh of IT energy"),
        Setting(
            "carbon_intensity", float, None, "location-based intensity in gCO2e/kWh, instead of the zone's"
        ),
        Setting("market_intensity", float, None, "market-based intensity of your contracts in gCO2e/kWh"),
        Setting(
            "grid_source",
            str,
            "catalog",
            "catalog, or comma-separated, tried in this order: electricitymaps, uk, watttime, FILE.csv",
        ),
        Setting("grid_region", str, None, "your region's name at a grid source: watttime=CAISO_NORTH"),
        Setting("grid_timeout_s", float, 5.0, "longest wait for an answer of a grid source, in seconds"),
        Setting("cloud_metadata", bool, False, "may the place be read from the cloud's own metadata server"),
        Setting("host", str, "127.0.0.1", "address the server listens on"),
        Setting("port", int, 8321, "port the server listens on"),
        Setting("slots", int, 8, "requests the embedded engine works on at once"),
        Setting("max_body_bytes", int, 8_388_608, "largest request body the server reads"),
        Setting("max_header_bytes", int, 32_768, "largest request header the server reads"),
        Setting("max_connections", int, 1000, "connections that may be open at once; more are refused"),
        Setting("max_requests_per_key", int, None, "requests of one API key at once; more are refused"),
        Setting("header_timeout_s", float, 10.0, "longest time for sending a request's header, in seconds"),
        Setting(
            "body_timeout_s",
            float,
            60.0,
            "longest time for sending a body, or for taking no answer, in seconds",
        ),
        Setting("request_timeout_s", float, 3600.0, "longest time for a request's whole answer, in seconds"),
        Setting(
            "tls_certificate", str, None, "file with the certificate chain; with it the server speaks TLS"
        ),
        Setting("tls_key", str, None, "file with the certificate's private key"),
        Setting("metrics_open", bool, False, "may /metrics be read without an API key"),
        Setting("log_format", str, "text", "text or json, one line a request on stderr"),
        Setting("log_level", str, "warning", "debug, info (every request), warning or error"),
        Setting(
            "accounts", str, None, "where budgets are kept: postgresql://... for many hosts, else a file here"
        ),
        Setting(
            "budget_output_tokens",
            int,
            1024,
            "limit of an answer, in tokens, where a budget counts the call and the client sets none",
        ),
        Setting(
            "budget_cheaper_model",
            str,
            None,
            "model asked instead where a budget lacks room for another; or several, with commas between",
        ),
        Setting(
            "price_per_kwh", str, None, "what a kWh costs the embedded engine, for budgets in money: 0.25 EUR"
        ),
        Setting(
            "cache",
            str,
            "off",
            "which answers are kept in memory: off, deterministic (embeddings, temperature 0) or all",
        ),
        Setting("cache_scope", str, "key", "who shares kept answers: key, team, project or all"),
        Setting("cache_entries", int, 10_000, "most answers that are kept"),
        Setting("cache_bytes", int, 67_108_864, "most bytes that kept answers take"),
        Setting("cache_ttl_s", float, 3600.0, "how long a kept answer is given again, in seconds"),
        Setting(
            "batches", bool, True, "may clients leave batches here; their prompts and answers are stored"
        ),
        Setting("batch_file_bytes", int, 209_715_200, "largest file of requests that a batch may have"),
        Setting("batch_store_bytes", int, 2_147_483_648, "most bytes that files of batches take together"),
        Setting("batch_lines", int, 50_000, "most requests in a batch"),
        Setting("batch_at_once", int, 64, "requests of batches that run, or are held, at once"),
        Setting("batch_keep_days", float, 30.0, "days after which files of batches are deleted"),
        Setting("upstream_timeout_s", float, 600.0, "longest silence of an upstream server, in seconds"),
        Setting("upstream_tries", int, 3, "times an upstream server is asked before its answer begins"),
    )
}

TABLES: tuple[str, ...] = ("pool", "shape", "upstream")
"""Tables that a file may hold beside the settings; whoever needs one knows what it must hold."""


def home(environment: Mapping[str, str] | None = None) -> Path:
    """The data folder with ledger, overrides and calibration: ``NEGAJOULE_HOME`` or the user's own.

    Raises:
        ConfigError: (C101) if it is given relative to the home of a user that there isn't.
    """
    environment = os.environ if environment is None else environment
    given, base = environment.get("NEGAJOULE_HOME"), environment.get("XDG_DATA_HOME")
    try:
        if given:
            return Path(given).expanduser()
        return (Path(base) if base else Path.home() / ".local" / "share") / "negajoule"
    except RuntimeError as error:
        raise ConfigError(
            f"the data folder can't be found: {error}", fix="set NEGAJOULE_HOME to the full path of a folder"
        ) from None


class Settings:
    """All settings, resolved once; unknown names and wrong types are errors that say where they stand.

    Args:
        arguments: values given on the command line or in code; ``None`` means not given.
        environment: the environment to read.
        folder: the folder whose ``negajoule.toml`` is read, by default the working folder.

    Raises:
        ConfigError: (C101, C102, C103) for wrong values, unreadable files and unknown names.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        environment = os.environ if environment is None else environment
        self._values = {name: Resolved(s.default, "default") for name, s in SETTINGS.items()}
        self._tables: dict[str, tuple[object, str]] = {}
        # Relative, because a program whose working folder has been removed may be measured too.
        for path in (home(environment) / "config.toml", (folder or Path()) / "negajoule.toml"):
            for name, value in _read_toml(path).items():
                if name in TABLES:
                    self._tables[name] = (value, str(path.absolute()))
                else:
                    self._set(name, value, str(path.absolute()))
        for setting in SETTINGS.values():
            text = environment.get(setting.variable)
            if text is not None and text != "":
                self._set(setting.name, text, setting.variable)
        for name, value in (arguments or {}).items():
            if value is not None:
                self._set(name, value, "argument")

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 (each setting has its own type)
        return self._values[name].value

    def table(self, name: str) -> tuple[object, str] | None:
        """What stands under a name of ``TABLES``, unchecked, and in which file; ``None`` if nothing does."""
        return self._tables.get(name)

    def resolved(self) -> dict[str, Resolved]:
        """Every setting with its value and origin."""
        return dict(self._values)

    def origin(self, name: str) -> str:
        """Where a setting's value came from."""
        return self._values[name].origin

    def _set(self, name: str, value: object, origin: str) -> None:
        setting = SETTINGS.get(name)
        if setting is None:
            known = ", ".join(sorted(SETTINGS))
            raise ConfigError(
                f"{origin} sets {name!r}, which doesn't exist", code="C103", fix=f"use one of {known}"
            )
        self._values[name] = Resolved(_checked(setting, value, origin), origin)


def _checked(setting: Setting, value: object, origin: str) -> str | float | int | bool:
    try:
        if setting.kind is bool:
            return _switch(value)
        if isinstance(value, bool) or (setting.kind is str and not isinstance(value, str)):
            raise ValueError
        converted: Any = setting.kind(value)
        if converted != value and setting.kind is int and isinstance(value, float):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ConfigError(
            f"{origin}: {setting.name} must be {_ARTICLE[setting.kind]}, not {value!r}", fix=setting.meaning
        ) from None
    lower = _AT_LEAST.get(setting.name)
    if lower is not None and not lower <= converted < float("inf"):
        raise ConfigError(
            f"{origin}: {setting.name} must be at least {lower:g}, not {value!r}", fix=setting.meaning
        )
    allowed = _ONE_OF.get(setting.name)
    if allowed is not None and converted not in allowed:
        raise ConfigError(f"{origin}: {setting.name} must be {' or '.join(allowed)}, not {value!r}")
    if setting.name == "port" and converted > 65_535:
        raise ConfigError(f"{origin}: port must be at most 65535, not {value!r}")
    return converted  # type: ignore[no-any-return]


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[str(value).lower()]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    import tomllib  # most programs have no file to read

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"can't read {path}: {error}", code="C102", fix="mend or remove the file")


_ARTICLE = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_AT_LEAST: dict[str, float] = {
    "pue": 1.0,
    "wue": 0.0,
    "carbon_intensity": 0.0,
    "market_intensity": 0.0,
    "grid_timeout_s": 0.1,
    "port": 0,
    "slots": 1,
    "max_body_bytes": 1024,
    "max_header_bytes": 1024,
    "max_connections": 1,
    "max_requests_per_key": 1,
    "header_timeout_s": 0.1,
    "body_timeout_s": 0.1,
    "request_timeout_s": 0.1,
    "upstream_timeout_s": 0.1,
    "upstream_tries": 1,
    "budget_output_tokens": 1,
    "batch_file_bytes": 1024,
    "batch_store_bytes": 1024,
    "batch_lines": 1,
    "batch_at_once": 1,
    "batch_keep_days": 0.01,
    "cache_entries": 1,
    "cache_bytes": 65_536,
    "cache_ttl_s": 1.0,
}
_ONE_OF: dict[str, tuple[str, ...]] = {
    "cache": ("off", "deterministic", "all"),
    "cache_scope": ("key", "team", "project", "all"),
    "log_format": ("text", "json"),
    "log_level": ("debug", "info", "warning", "error"),
}
