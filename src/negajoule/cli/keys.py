"""``negajoule keys``: make, list, revoke, rotate and copy the API keys of the server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from negajoule.cli.output import json_option, print_json, print_table, say
from negajoule.cli.span import span_s
from negajoule.gateway.caller import SCOPES
from negajoule.gateway.keys import DEFAULT_SCOPES, KeyFile

if TYPE_CHECKING:
    from negajoule.gateway.keys import Key

__all__ = ["keys"]


@click.group()
def keys() -> None:
    """Make, list, revoke and rotate the API keys of the server.

    Once there is a key, the server answers nobody without one. A running server notices changes within a
    second.
    """


@keys.command()
@click.argument("name")
@click.option("--team", default="", help="Team whose budgets its requests count on.")
@click.option("--project", default="", help="Project whose budgets its requests count on.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help=f"What it may do; again for more. Without: {', '.join(DEFAULT_SCOPES)}.",
)
@click.option("--model", "models", multiple=True, help="Model it may ask, such as 'llama*'; again for more.")
@click.option("--expires", default=None, help="When it ends, from now: 12h, 90d.")
@json_option
def create(
    name: str,
    team: str,
    project: str,
    scopes: tuple[str, ...],
    models: tuple[str, ...],
    expires: str | None,
    as_json: bool,
) -> None:
    """Make a key called NAME; it is shown this once.

    Example: negajoule keys create nightly --team search --expires 90d
    """
    key, secret = KeyFile().create(
        name,
        team=team,
        project=project,
        scopes=scopes or DEFAULT_SCOPES,
        models=models,
        lasts_s=None if expires is None else span_s(expires, "--expires"),
    )
    _show_secret(key, secret, as_json=as_json)


@keys.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the keys, without their secrets."""
    found = KeyFile().all_keys()
    if as_json:
        print_json({"schema": "negajoule.keys/1", "keys": [_as_dict(key) for key in found]})
        return
    if not found:
        say("no keys; make one: negajoule keys create NAME")
        return
    now_s = time.time()
    print_table(
        ("name", "team", "project", "scopes", "models", "made", "last used", "ends", "state"),
        [
            (
                key.caller.name,
                key.caller.team or "-",
                key.caller.project or "-",
                " ".join(_scopes(key)),
                " ".join(key.caller.models) or "all",
                key.created_day,
                key.last_used_day or "-",
                _day(key.expires_s) or "-",
                key.state(now_s),
            )
            for key in found
        ],
    )


@keys.command()
@click.argument("name")
@json_option
def revoke(name: str, as_json: bool) -> None:
    """End the key called NAME for good; its name isn't given again."""
    key = KeyFile().revoke(name)
    if as_json:
        print_json({"schema": "negajoule.key/1", "key": _as_dict(key)})
        return
    say(f"revoked {name}; a running server refuses it within a second")


@keys.command()
@click.argument("name")
@click.option("--grace", default=None, help="How long the old secret stays good: 30m, 1d.")
@json_option
def rotate(name: str, grace: str | None, as_json: bool) -> None:
    """Give the key called NAME a new secret; it is shown this once."""
    grace_s = 0.0 if grace is None else span_s(grace, "--grace")
    key, secret = KeyFile().rotate(name, grace_s=grace_s)
    _show_secret(key, secret, as_json=as_json)


@keys.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def copy(file: Path, as_json: bool) -> None:
    """Copy all keys to FILE, hashes and all, for the servers of other hosts.

    FILE is replaced as a whole, also under a running server. See docs/guides/scale-out.md.

    Example: negajoule keys copy /mnt/config/keys.sqlite
    """
    count = KeyFile().copy_to(file)
    if as_json:
        print_json({"schema": "negajoule.keys.copy/1", "file": str(file), "keys": count})
        return
    say(f"copied {count} keys to {file}: keep it as safe as the original")


def _show_secret(key: Key, secret: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"schema": "negajoule.key/1", "key": _as_dict(key), "secret": secret})
        return
    click.echo(secret)
    say("keep it now: only its hash is stored, and it can't be shown again")


def _as_dict(key: Key) -> dict[str, Any]:
    return {
        "name": key.caller.name,
        "team": key.caller.team,
        "project": key.caller.project,
        "scopes": _scopes(key),
        "models": list(key.caller.models),
        "created": key.created_day,
        "last_used": key.last_used_day,
        "expires": _moment(key.expires_s),
        "revoked": key.revoked_day,
        "state": key.state(time.time()),
    }


def _scopes(key: Key) -> list[str]:
    return [scope for scope in SCOPES if scope in key.caller.scopes]


def _day(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
