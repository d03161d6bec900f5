"""Which servers stand behind the gateway: the ``[[upstream]]`` tables of negajoule.toml.

[[upstream]]
name = "claude"
provider = "anthropic"            # openai, openai-compatible, anthropic or gemini
url = "https://api.anthropic.com" # the provider's own by default
key_env = "ANTHROPIC_API_KEY"     # the variable that holds the key; keys never stand in the file
models = {big = "claude-opus-4"}  # or a list of names; all that it has by default
fallback = ["other"]              # upstreams to ask instead before the first byte, in order
context_tokens = 200000           # the models' context window
capabilities = ["tools", "vision", "json"]
replicas = ["http://10.0.0.2:8000"] # further addresses of the same; calls are spread over them
imbalance_j = 20.0                # joules that one call more than at the least busy replica may save
metered_by = "nvml:0"             # the instrument here that reads the server's accelerators: "nvml:0,1"
batch_metrics = "http://127.0.0.1:8000/metrics" # what shares its joules out; the server's own by default
native = ["responses"]            # calls it takes as they are: of responses, count_tokens
currency = "EUR"                  # of the prices, for budgets in money
prices = {big = {input = 5.0, output = 25.0, cached = 0.5}} # per million tokens, by public name or "*"
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from negajoule.errors import ConfigError
from negajoule.gateway.adapters import PROVIDERS, Provider
from negajoule.gateway.prices import Price

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from negajoule.gateway.wire import Call

__all__ = ["CAPABILITIES", "NATIVE", "UpstreamPlan", "keys_of", "plan_for", "read_plan"]

CAPABILITIES = ("audio", "files", "json", "tools", "vision")
"""What a model may be able to do besides answering text with text."""

_KEYS = (
    "name",
    "url",
    "provider",
    "key_env",
    "models",
    "fallback",
    "context_tokens",
    "capabilities",
    "currency",
    "prices",
    "replicas",
    "imbalance_j",
    "metered_by",
    "batch_metrics",
    "native",
)
NATIVE = ("count_tokens", "responses")
"""Calls that a server may take as they are, without translation."""

_PRICES = ("input", "output", "cached")
_CURRENCY = re.compile(r"[A-Z]{3}")
_INSTRUMENT = re.compile(r"[a-z]+:[A-Za-z0-9-]+(,[A-Za-z0-9-]+)*")
_VERSION = re.compile(r"v\d+\w*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class UpstreamPlan(msgspec.Struct, frozen=True):
    """One server as it was asked for.

    Attributes:
        name: what it is called here.
        provider: what kind of server it is.
        base: its address, version included.
        key_env: the environment variable that holds its key; ``None`` for no key.
        models: the upstream's name of each model by the public one; empty if it passes all names on.
        fallback: names of the servers to ask instead, in order.
        context_tokens: size of its models' context window; ``None`` if unknown.
        capabilities: what its models can do; ``None`` if unknown.
        prices: what is paid for its models, by public name; ``*`` stands for all others.
        replica_of: the name that several servers of the same models share; empty for a single one.
        imbalance_j: what it is worth not to wait behind one call more than at the least busy replica [J].
        metered_by: the instrument that reads its accelerators, and which; ``None`` for none.
        batch_metrics: address that tells how its batch is made up.
        native: calls that it takes as they are.
    """

    name: str
    provider: Provider
    base: str
    key_env: str | None = None
    models: dict[str, str] = {}
    fallback: tuple[str, ...] = ()
    context_tokens: int | None = None
    capabilities: frozenset[str] | None = None
    prices: dict[str, Price] = {}
    replica_of: str = ""
    imbalance_j: float = 20.0
    metered_by: str | None = None
    batch_metrics: str | None = None
    native: frozenset[str] = frozenset()

    @property
    def limitless(self) -> bool:
        """Whether nothing is known of what its models can't do."""
        return self.context_tokens is None and self.capabilities is None

    def model_for(self, model: str) -> str | None:
        """The upstream's name of a public model; ``None`` if it doesn't serve it."""
        return self.models.get(model) if self.models else model

    def provider_for(self, call: Call) -> Provider:
        """How a call is put to it: as it came in the Responses API, if it takes those, else translated."""
        if call.native and "responses" in self.native:
            return msgspec.structs.replace(
                self.provider, dialect="responses", chat="/responses", stream="/responses"
            )
        return self.provider

    def price_of(self, model: str) -> Price | None:
        """What is paid for a public model; ``None`` if that isn't stated."""
        prices = self.prices
        return (prices.get(model) or prices.get("*")) if prices else None


def plan_for(url: str) -> UpstreamPlan:
    """The plan of one OpenAI-compatible server that passes all models on.

    Raises:
        ConfigError: C101 if it's no address of a server.
    """
    provider = PROVIDERS["openai-compatible"]
    return UpstreamPlan("upstream", provider, _base(url, provider, "--upstream"))


def read_plan(tables: object, origin: str) -> tuple[UpstreamPlan, ...]:
    """Read the tables.

    Args:
        tables: what stands under ``upstream``.
        origin: the file, for errors.

    Raises:
        ConfigError: (C101) for a wrong value, (C103) for a key that doesn't exist.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise _wrong(f"{origin}: upstream", "must be tables, each under [[upstream]]")
    plans = tuple(_read(table, f"{origin}: upstream[{place}]") for place, table in enumerate(tables))
    _check(plans, origin)
    return tuple(
        plan
        for plan, table in zip(plans, tables, strict=True)
        for plan in _with_replicas(plan, table, f"{origin}: upstream {plan.name}.replicas")
    )


def _check(plans: Sequence[UpstreamPlan], origin: str) -> None:
    names = [plan.name for plan in plans]
    for place, plan in enumerate(plans):
        at = f"{origin}: upstream[{place}]"
        if names.index(plan.name) != place:
            raise _wrong(f"{at}.name", f"{plan.name!r} is taken by an upstream above")
        for other in plan.fallback:
            if other == plan.name or other not in names:
                raise _wrong(f"{at}.fallback", f"{other!r} isn't the name of another upstream")
            theirs = plans[names.index(other)]
            if plan.models and all(theirs.model_for(model) is None for model in plan.models):
                raise _wrong(f"{at}.fallback", f"{other!r} serves none of the models of {plan.name!r}")
            currencies = {price.currency for one in (plan, theirs) for price in one.prices.values()}
            if len(currencies) > 1:
                mixed = " and ".join(sorted(currencies))
                raise _wrong(
                    f"{at}.fallback", f"{other!r} is paid in another currency: {mixed} can't be mixed"
                )


def _with_replicas(plan: UpstreamPlan, table: Mapping[str, Any], at: str) -> tuple[UpstreamPlan, ...]:
    """One plan for each address of a server that has several; each falls back to all others."""
    further = _texts(table.get("replicas", []), at)
    if not further:
        return (plan,)
    if plan.metered_by is not None:
        raise _wrong(at, "can't be given with metered_by: each metered server needs a table of its own")
    bases = [plan.base, *(_base(url, plan.provider, at) for url in further)]
    if len(set(bases)) < len(bases):
        raise _wrong(at, "must hold other addresses than url, each once")
    names = [plan.name, *(f"{plan.name}#{place}" for place in range(2, len(bases) + 1))]
    return tuple(
        msgspec.structs.replace(
            plan,
            name=name,
            base=base,
            replica_of=plan.name,
            fallback=(*(other for other in names if other != name), *plan.fallback),
        )
        for name, base in zip(names, bases, strict=True)
    )


def _read(table: Mapping[str, Any], at: str) -> UpstreamPlan:
    for key in table:
        if key not in _KEYS:
            raise ConfigError(f"{at}.{key} doesn't exist", code="C103", fix=f"use {', '.join(_KEYS)}")
    kind = _text(table, "provider", at) or "openai-compatible"
    provider = PROVIDERS.get(kind)
    if provider is None:
        raise _wrong(f"{at}.provider", f"must be {' or '.join(PROVIDERS)}, not {kind!r}")
    name = _text(table, "name", at)
    if not name:
        raise _wrong(f"{at}.name", "is required")
    url = _text(table, "url", at)
    if not url and kind == "openai-compatible":
        raise _wrong(f"{at}.url", "is required")
    key_env = _text(table, "key_env", at)
    if key_env and not _VARIABLE.fullmatch(key_env):
        # What stands there may be a key by mistake, so it isn't repeated.
        raise _wrong(f"{at}.key_env", "must be the name of an environment variable, not a key")
    return UpstreamPlan(
        name=name,
        provider=provider,
        base=_base(url, provider, f"{at}.url") if url else provider.base,
        key_env=key_env or None,
        models=_models(table.get("models"), f"{at}.models"),
        fallback=_texts(table.get("fallback", []), f"{at}.fallback"),
        context_tokens=_tokens(table.get("context_tokens"), f"{at}.context_tokens"),
        capabilities=_capabilities(table.get("capabilities"), f"{at}.capabilities"),
        prices=_prices(table.get("prices"), _text(table, "currency", at), at),
        imbalance_j=_amount(table.get("imbalance_j", 20.0), f"{at}.imbalance_j"),
        metered_by=_instrument(_text(table, "metered_by", at), f"{at}.metered_by"),
        batch_metrics=_text(table, "batch_metrics", at) or None,
        native=_native(table.get("native", []), provider, f"{at}.native"),
    )


def _base(url: str, provider: Provider, at: str) -> str:
    """The address with the version that the provider's paths begin below."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises if it isn't a number)
    except ValueError:
        raise _wrong(at, "isn't an address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _wrong(at, "must be an address such as http://127.0.0.1:8000")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise _wrong(at, "must hold no name, password, query or fragment")
    base = url.rstrip("/")
    if _VERSION.fullmatch(base.rpartition("/")[2]):
        return base
    return f"{base}/{provider.base.rpartition('/')[2]}"


def _models(value: object, at: str) -> dict[str, str]:
    if value is None:
        return {}
    given = value if isinstance(value, dict) else {model: model for model in _texts(value, at)}
    if not given:
        raise _wrong(at, "must not be empty")
    if not all(isinstance(name, str) and name and model for model, name in given.items()):
        raise _wrong(at, "must be a list of names, or a table from public names to the upstream's")
    return given


def _amount(value: object, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise _wrong(at, f"must be an amount of at least 0, not {value!r}")
    return float(value)


def _instrument(value: str, at: str) -> str | None:
    if value and not _INSTRUMENT.fullmatch(value):
        raise _wrong(at, f'must be an instrument and its devices such as "nvml:0", not {value!r}')
    return value or None


def _capabilities(value: object, at: str) -> frozenset[str] | None:
    return None if value is None else _chosen(value, CAPABILITIES, at)


def _native(value: object, provider: Provider, at: str) -> frozenset[str]:
    given = _chosen(value, NATIVE, at)
    if "responses" in given and provider.dialect != "openai":
        raise _wrong(at, f"may hold responses for OpenAI's dialect only, which {provider.name} doesn't speak")
    return given | {"count_tokens"} if provider.dialect == "anthropic" else given


def _chosen(value: object, allowed: Sequence[str], at: str) -> frozenset[str]:
    given = _texts(value, at)
    for name in given:
        if name not in allowed:
            raise _wrong(at, f"may hold {', '.join(allowed)}, not {name!r}")
    return frozenset(given)


def _prices(value: object, currency: str, at: str) -> dict[str, Price]:
    if value is None:
        if currency:
            raise _wrong(f"{at}.currency", "is given without prices")
        return {}
    if not _CURRENCY.fullmatch(currency):
        raise _wrong(f"{at}.currency", f"must be the prices' ISO 4217 code such as EUR, not {currency!r}")
    if not isinstance(value, dict) or not value:
        raise _wrong(f"{at}.prices", 'must be a table from public names, or "*", to prices')
    return {model: _price(table, currency, f"{at}.prices.{model}") for model, table in value.items()}


def _price(table: object, currency: str, at: str) -> Price:
    if not isinstance(table, dict) or not {"input", "output"} <= set(table) <= set(_PRICES):
        raise _wrong(at, "must hold input and output, and may hold cached, each per million tokens")
    for key, value in table.items():
        _amount(value, f"{at}.{key}")
    cached = table.get("cached")
    return Price(
        currency, float(table["input"]), float(table["output"]), None if cached is None else float(cached)
    )


def _tokens(value: object, at: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _wrong(at, f"must be a whole number above 0, not {value!r}")
    return value


def _texts(value: object, at: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise _wrong(at, "must be a list of texts")
    return tuple(value)


def _text(table: Mapping[str, Any], key: str, at: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise _wrong(f"{at}.{key}", f"must be a text, not {value!r}")
    return value


def _wrong(at: str, problem: str) -> ConfigError:
    return ConfigError(f"{at} {problem}", code="C101")


def keys_of(plans: Iterable[UpstreamPlan], environment: Mapping[str, str]) -> dict[str, str]:
    """The key of each server that has one, by the server's name.

    Raises:
        ConfigError: C101 if a variable isn't set.
    """
    keys = {}
    for plan in plans:
        if plan.key_env is None:
            continue
        key = environment.get(plan.key_env, "").strip()
        if not key:
            raise ConfigError(
                f"the upstream {plan.name!r} needs a key in {plan.key_env}, which isn't set",
                code="C101",
                fix=f"export {plan.key_env}=KEY",
            )
        keys[plan.name] = key
    return keys
