"""Writes what the documentation repeats from the code; a test fails when it is stale.

python docs/generate.py
"""

from __future__ import annotations

from pathlib import Path

from negajoule.cli.reload import RELOADED
from negajoule.cli.stored import MEMORY, NEVER, SENT, STORED
from negajoule.config import _AT_LEAST, _ONE_OF, SETTINGS, Setting

ROOT = Path(__file__).parents[1]

_KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_EXAMPLES: dict[str, object] = {
    "zone": "FR",
    "pue": 1.3,
    "wue": 0.4,
    "carbon_intensity": 50.0,
    "market_intensity": 0.0,
    "grid_region": "watttime=CAISO_NORTH",
    "max_requests_per_key": 32,
    "tls_certificate": "/etc/negajoule/tls/fullchain.pem",
    "tls_key": "/etc/negajoule/tls/privkey.pem",
    "accounts": "postgresql://negajoule@db.example/negajoule",
    "budget_cheaper_model": "llama-3.1-8b, smollm2",
    "price_per_kwh": "0.25 EUR",
}
"""Values that show what settings without a default look like."""

_GENERATED = "<!-- written by docs/generate.py -->"


def settings_page() -> str:
    """``docs/reference/settings.md``."""
    rows = [
        f"| `{s.name}` | {_default(s)} | {_kind(s)} | {s.meaning} | {'yes' if s.name in RELOADED else ''} |"
        for s in SETTINGS.values()
    ]
    table = "\n".join(rows)
    return f"""# Settings

{_GENERATED}

An argument beats the environment, which beats `negajoule.toml` in the working folder, which beats
`config.toml` in the data folder, which beats the default. `negajoule config` tells each value and where it
comes from. The environment variable of `zone` is `NEGAJOULE_ZONE`, and so on.

All of them in one file: [examples/negajoule.toml](../../examples/negajoule.toml). Servers behind the
gateway stand in tables `[[upstream]]` of the same file: [upstreams](../guides/upstreams.md).

What is marked in the last column is taken up by a running server on `SIGHUP`, and so are the tables
`[[upstream]]` and `[[shape]]` and the contents of the TLS certificate's files. If anything is wrong, nothing
is taken up, and the log says why. API keys and budgets are taken up as they change, without a signal.

| setting | default | kind | meaning | on SIGHUP |
|---|---|---|---|---|
{table}

Only in the environment, because files are read by others:

| variable | meaning |
|---|---|
| `NEGAJOULE_HOME` | the data folder |
| `NEGAJOULE_UPSTREAM_KEY` | key sent to `negajoule serve --upstream` |
| `NEGAJOULE_API_KEY` | key that `negajoule play` sends to a server |
"""


def settings_file() -> str:
    """``examples/negajoule.toml``."""
    lines = ["# Every setting with its default, or an example. Take away the # of what you change."]
    for setting in SETTINGS.values():
        value = _EXAMPLES[setting.name] if setting.default is None else setting.default
        lines += ["", f"# {setting.meaning}", f"#{setting.name} = {_toml(value)}"]
    return "\n".join(lines) + "\n"


def privacy_tables() -> str:
    """The tables of ``docs/privacy.md``."""
    rows = [f"| {p.name} | `{p.pattern}` | {p.holds} | {p.until} |" for p in STORED]
    columns = [
        f"| `{table.name}` | {meaning} | {', '.join(f'`{name}`' for name in names.split())} |"
        for place in STORED
        for table in place.tables
        for meaning, names in table.columns.items()
    ]
    return "\n".join(
        [
            _GENERATED,
            "",
            "| what | where | holds | until |",
            "|---|---|---|---|",
            *rows,
            "",
            "Column by column:",
            "",
            "| table | meaning | columns |",
            "|---|---|---|",
            *columns,
            "",
            "Kept in a server's memory only if you set",
            "",
            *(f"- `{name}`: {text}" for name, text in MEMORY.items()),
            "",
            "Never stored:",
            "",
            *(f"- {text}" for text in NEVER),
            "",
            "Leaves this machine only if you set",
            "",
            *(f"- `{name}`: {text}" for name, text in SENT.items()),
            "",
            _GENERATED,
        ]
    )


def privacy_page() -> str:
    """``docs/privacy.md`` with its tables anew."""
    before, _, after = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8").split(_GENERATED)
    return f"{before}{privacy_tables()}{after}"


PAGES = {
    "docs/reference/settings.md": settings_page,
    "examples/negajoule.toml": settings_file,
    "docs/privacy.md": privacy_page,
}
"""Each file and what it must hold."""


def _default(setting: Setting) -> str:
    return "" if setting.default is None else f"`{_toml(setting.default)}`"


def _kind(setting: Setting) -> str:
    if setting.name in _ONE_OF:
        return " or ".join(f"`{choice}`" for choice in _ONE_OF[setting.name])
    lowest = _AT_LEAST.get(setting.name)
    return _KINDS[setting.kind] + ("" if lowest is None else f", at least {lowest:g}")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    for name, page in PAGES.items():
        (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / name).write_text(page(), encoding="utf-8")
        print(name)
