"""``negajoule play``: send prompts to a server, one by one and together, and show what each one cost."""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import click

from negajoule.cli.output import json_option, print_json
from negajoule.errors import ConfigError, EngineError
from negajoule.units import INDICATORS, total
from negajoule.units.text import LABELS, interval_text, number_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.units import Quantity

__all__ = ["play"]

_SHOWN = ("it_energy", "facility_energy", "carbon_location", "water_onsite", "water_offsite", "embodied")


class _Answer(NamedTuple):
    prompt: str
    text: str
    tokens_in: int
    tokens_out: int
    seconds: float
    footprint: dict[str, Any]


class _Round(NamedTuple):
    name: str
    answers: list[_Answer]
    seconds: float
    cpu_seconds: float | None

    @property
    def tokens(self) -> int:
        return sum(answer.tokens_in + answer.tokens_out for answer in self.answers)

    @property
    def tokens_per_cpu_s(self) -> float | None:
        return self.tokens / self.cpu_seconds if self.cpu_seconds else None


@click.command()
@click.argument("url", default="http://127.0.0.1:8321")
@click.option(
    "--prompts",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help='JSON lines with "prompt" and, if you like, "max_tokens"; by default the bundled ones.',
)
@click.option("--model", default=None, help="Model to ask; by default the server's first.")
@click.option(
    "--concurrency", type=click.IntRange(1, 64), default=8, show_default=True, help="Requests sent together."
)
@json_option
def play(url: str, path: Path | None, model: str | None, concurrency: int, as_json: bool) -> None:
    """Send prompts to the server at URL, first one by one, then together, and show what each one cost.

    NEGAJOULE_API_KEY is sent as the key, if the server needs one.

    Example: negajoule play http://127.0.0.1:8321 --concurrency 8
    """
    base = url.rstrip("/").removesuffix("/v1")
    prompts = _read_prompts(path)
    model = model or _first_model(base)
    rounds = [
        _play_round("one by one", base, model, prompts, 1),
        _play_round(f"{concurrency} at once", base, model, prompts, concurrency),
    ]
    health = _get(f"{base}/healthz")
    if as_json:
        print_json(_as_dict(url, model, rounds, health))
        return
    _show(model, rounds, health)


def _play_round(name: str, base: str, model: str, prompts: Sequence[dict[str, Any]], threads: int) -> _Round:
    before = _cpu_seconds(base)
    started = time.perf_counter()
    with (
        ThreadPoolExecutor(threads) as pool,
        click.progressbar(
            length=len(prompts), label=name, file=sys.stderr, hidden=not sys.stderr.isatty()
        ) as bar,
    ):
        answers = []
        for answer in pool.map(lambda prompt: _ask(base, model, prompt), prompts):
            answers.append(answer)
            bar.update(1)
    seconds = time.perf_counter() - started
    after = _cpu_seconds(base)
    return _Round(name, answers, seconds, None if before is None or after is None else after - before)


def _ask(base: str, model: str, prompt: dict[str, Any]) -> _Answer:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt["prompt"]}],
        "max_tokens": prompt.get("max_tokens", 64),
        "temperature": 0,
        # The second round must do the work of the first again, or the comparison would flatter batching.
        "cache_prompt": False,
    }
    started = time.perf_counter()
    answer = _get(f"{base}/v1/chat/completions", body)
    seconds = time.perf_counter() - started
    try:
        usage = answer.get("usage") or {}
        return _Answer(
            prompt=prompt["prompt"],
            text=answer["choices"][0]["message"]["content"] or "",
            tokens_in=usage.get("prompt_tokens", 0),
            tokens_out=usage.get("completion_tokens", 0),
            seconds=seconds,
            footprint=answer.get("footprint") or {},
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        raise EngineError("the server's answer isn't a chat completion", code="E104", tried=base) from None


def _get(url: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 (a server's JSON)
    data = None if body is None else json.dumps(body).encode()
    try:
        headers = {"content-type": "application/json"}
        key = os.environ.get("NEGAJOULE_API_KEY")
        if key:
            headers["authorization"] = f"Bearer {key}"
        request = Request(url, data, headers)
        with urlopen(request, timeout=600) as response:
            return json.load(response)
    except HTTPError as error:
        detail = error.read(65_536).decode(errors="replace")
        raise EngineError(
            f"the server answered {error.code}: {detail[:500]}", code="E103", tried=url
        ) from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise EngineError(
            f"no server answers: {reason}", code="E103", tried=url, fix="start one: negajoule serve"
        ) from None
    except ValueError as error:
        raise EngineError(f"the server's answer isn't JSON: {error}", code="E104", tried=url) from None


def _cpu_seconds(base: str) -> float | None:
    """The server's CPU time, if it is one of ours that tells [s]."""
    try:
        value = _get(f"{base}/healthz").get("cpu_seconds")
    except (EngineError, AttributeError):
        return None
    return value if isinstance(value, (int, float)) else None


def _first_model(base: str) -> str:
    models = _get(f"{base}/v1/models").get("data") or []
    if not models:
        raise EngineError("the server lists no model", code="E104", tried=f"{base}/v1/models")
    return str(models[0]["id"])


def _read_prompts(path: Path | None) -> list[dict[str, Any]]:
    source = files("negajoule.cli") / "prompts.jsonl" if path is None else path
    try:
        lines = source.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read {path}: {error}", code="C106") from None
    prompts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompt = json.loads(line)
        except ValueError:
            prompt = None
        if not isinstance(prompt, dict) or not isinstance(prompt.get("prompt"), str):
            raise ConfigError(
                f"{path}, line {number}: not a JSON object with a text under 'prompt'", code="C106"
            )
        prompts.append(prompt)
    if not prompts:
        raise ConfigError(f"{path} holds no prompt", code="C106")
    return prompts


def _sum(answers: Sequence[_Answer], indicator: str) -> Quantity | None:
    """Sum over the answers; ``None`` if any of them doesn't know it."""
    found = [answer.footprint.get(indicator) for answer in answers]
    known = [INDICATORS[indicator].from_dict(one) for one in found if one is not None]
    return total(known) if len(known) == len(found) else None


def _show(model: str, rounds: Sequence[_Round], health: dict[str, Any]) -> None:
    for one in rounds:
        click.echo(f"\n{model}, {one.name}")
        for number, answer in enumerate(one.answers, 1):
            click.echo("\n" + _card(number, answer))
    everything = [answer for one in rounds for answer in one.answers]
    click.echo(f"\ntotal of {len(everything)} requests")
    for name in _SHOWN:
        sum_ = _sum(everything, name)
        click.echo(f"  {LABELS[name]:<16} {interval_text(sum_) if sum_ else 'unknown'}")
    for note in dict.fromkeys(n for answer in everything for n in answer.footprint.get("notes", [])):
        click.echo(f"  note             {note}")
    if all(one.cpu_seconds is not None for one in rounds):
        click.echo("\nbatching, measured on the server's CPU time")
        for one in rounds:
            click.echo(
                f"  {one.name:<16} {one.tokens} tokens, {one.cpu_seconds:.2f} CPU-s, "
                f"{number_text(one.tokens_per_cpu_s or 0.0, 3)} tokens per CPU-s, {one.seconds:.1f} s"
            )
    energy = health.get("energy") if isinstance(health, dict) else None
    if energy:
        parts = energy["requests_j"] + energy["in_flight_j"] + energy["idle_j"]
        click.echo(
            f"\nparts add up: requests {energy['requests_j']:.1f} J + idle {energy['idle_j']:.1f} J "
            f"= {parts:.1f} J; meter {energy['meter_j']:.1f} J; residual {energy['residual_relative']:.1e}"
        )


def _card(number: int, answer: _Answer) -> str:
    """Three lines for one request, each figure with range, unit and basis."""

    def shown(*indicators: str) -> str:
        sums = [_sum([answer], name) for name in indicators]
        known = total(quantity for quantity in sums if quantity is not None)
        return "unknown" if known is None or None in sums else interval_text(known)

    prompt = answer.prompt if len(answer.prompt) <= 48 else answer.prompt[:47] + "…"
    return (
        f"{number:>3}  {prompt:<48}  {answer.tokens_in} in, {answer.tokens_out} out, {answer.seconds:.1f} s\n"
        f"     energy {shown('it_energy'):<38} carbon   {shown('carbon_location')}\n"
        f"     water  {shown('water_onsite', 'water_offsite'):<38} embodied {shown('embodied')}"
    )


def _as_dict(url: str, model: str, rounds: Sequence[_Round], health: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": "negajoule.play/1",
        "url": url,
        "model": model,
        "rounds": [
            {
                "name": one.name,
                "seconds": one.seconds,
                "server_cpu_seconds": one.cpu_seconds,
                "tokens": one.tokens,
                "tokens_per_cpu_s": one.tokens_per_cpu_s,
                "answers": [answer._asdict() for answer in one.answers],
            }
            for one in rounds
        ],
        "energy": health.get("energy") if isinstance(health, dict) else None,
    }
