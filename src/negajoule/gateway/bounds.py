"""The most a call can use, worked out before it is sent.

Tokens: no byte-level tokeniser makes more tokens of a text than it has bytes, and JSON never writes a text
shorter than it is, so the body's bytes bound the prompt, plus what a chat template adds. Pictures, sound and
files have no such bound; a call with them isn't bounded at all.

Joules, grams and litres: the high end of the estimate for an upstream's model, and for this machine the most
that any of the latest calls took for each token it computed, high end, times ``MARGIN``. That is a bound only
as long as calls stay alike: one that goes beyond is charged in full and counted as an overrun.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.gateway.accounts import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from negajoule.gateway.wire import Call
    from negajoule.units import Footprint, Quantity

    Estimate = Callable[[str, Tokens], Footprint | None]

__all__ = ["INDICATORS", "Ask", "Rates", "figures"]

INDICATORS = ("J", "gCO2e", "L")
"""What can be bounded. There are no prices here, so a budget in money refuses what it can't know."""

MARGIN = 2.0
"""How much more than any call seen the next one may take for a token [1]; a choice, not a measurement."""

_REMEMBERED = 256
_TEMPLATE_TOKENS = 128
_TOOLS_TOKENS = 1024
_OUTPUT_FIELDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_NAMES_MORE = ("audio", "conversation", "previous_response_id", "web_search_options")
_TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


class Ask(NamedTuple):
    """What a call asks for, at most.

    Attributes:
        prompt_tokens: of all its prompts together; ``None`` if they can't be bounded.
        answers: how many answers it asks for.
        output_tokens: of each answer; ``None`` if it sets no limit.
    """

    prompt_tokens: int | None
    answers: int
    output_tokens: int | None

    @classmethod
    def of(cls, call: Call) -> Ask:
        """Look at a call's body."""
        body = call.body()
        prompt = body.get("input" if call.task == "embedding" else "prompt")
        prompts = len(prompt) if isinstance(prompt, list) and not _is_ids(prompt) else 1
        if call.task == "embedding":
            return cls(len(call.raw) + _TEMPLATE_TOKENS * max(1, prompts), 1, 0)
        choices = max(_count(body.get("n")), _count(body.get("best_of")))
        answers = max(1, prompts) * choices
        limits = [body[name] for name in _OUTPUT_FIELDS if isinstance(body.get(name), int)]
        tokens: int | None = None
        if _only_text(body):
            added = _TOOLS_TOKENS if body.get("tools") or body.get("functions") else _TEMPLATE_TOKENS
            tokens = len(call.raw) + added * max(1, prompts)
        return cls(tokens, answers, max(limits) if limits else None)

    def tokens(self, output_tokens: int) -> Tokens | None:
        """The most it can take with answers of that length; ``None`` if that can't be told."""
        if self.prompt_tokens is None:
            return None
        return Tokens(self.prompt_tokens * self.answers, 0, output_tokens * self.answers)


class Rates:
    """What a token takes at most, learnt from the calls that ended well.

    Args:
        estimate: footprint of an upstream's model; ``None`` if the model runs in this process.
    """

    def __init__(self, estimate: Estimate | None = None) -> None:
        self._estimate = estimate
        self._seen: dict[str, deque[dict[str, float | None]]] = {}

    def known(self, model: str) -> bool:
        """Whether a bound can be given without a call to learn from."""
        return self._estimate is not None or model in self._seen

    def bound(self, model: str, tokens: Tokens | None) -> dict[str, float | None]:
        """By indicator, the most a call can use; ``None`` where that isn't known.

        Until a call has shown what passing on takes here, it is taken for no more than the model's own share.
        """
        if tokens is None:
            return dict.fromkeys(INDICATORS)
        theirs: Mapping[str, float | None] = dict.fromkeys(INDICATORS, 0.0)
        if self._estimate is not None:
            theirs = figures(self._estimate(model, tokens), "high")
        count = (tokens.prompt or 0) + (tokens.output or 0)
        seen = self._seen.get(self._place(model))
        bounds: dict[str, float | None] = {}
        for name in INDICATORS:
            their = theirs[name]
            own = their
            if seen is not None:
                rates = [one[name] for one in seen]
                known = [rate for rate in rates if rate is not None]
                own = max(known) * MARGIN * count if len(known) == len(rates) else None
            bounds[name] = None if their is None or own is None else their + own
        return bounds

    def learn(self, model: str, tokens: Tokens, cost: Footprint) -> None:
        """Take up what a call that ended well took."""
        if tokens.prompt is None or tokens.output is None:
            return
        computed = max(1, tokens.prompt - (tokens.cached or 0) + tokens.output)
        high, value = figures(cost, "high"), figures(cost, "value")
        if self._estimate is not None:
            theirs = self._estimate(model, tokens)
            if theirs is None:
                return
            high = _less(high, figures(theirs, "high"))
            value = _less(value, figures(theirs, "value"))
        rates: dict[str, float | None] = {}
        for name in INDICATORS:
            top, best = high[name], value[name]
            rates[name] = None if top is None or best is None else max(0.0, top, best) / computed
        self._seen.setdefault(self._place(model), deque(maxlen=_REMEMBERED)).append(rates)

    def _place(self, model: str) -> str:
        """Passing on costs the same whatever the model, and clients choose the names of models."""
        return model if self._estimate is None else ""


def figures(cost: Footprint | None, end: str) -> dict[str, float | None]:
    """A footprint as budgets count it: IT energy, carbon by the grid's mix, both waters.

    Args:
        cost: the footprint.
        end: ``value`` for the best estimate or ``high`` for the upper end.
    """
    if cost is None:
        return dict.fromkeys(INDICATORS)

    def figure(quantity: Quantity | None) -> float | None:
        return None if quantity is None else float(getattr(quantity, end))

    waters = (figure(cost.water_onsite), figure(cost.water_offsite))
    return {
        "J": figure(cost.it_energy),
        "gCO2e": figure(cost.carbon_location),
        "L": None if waters[0] is None or waters[1] is None else waters[0] + waters[1],
    }


def _less(all_: Mapping[str, float | None], part: Mapping[str, float | None]) -> dict[str, float | None]:
    rest: dict[str, float | None] = {}
    for name in INDICATORS:
        whole, share = all_[name], part[name]
        rest[name] = None if whole is None or share is None else whole - share
    return rest


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 1


def _is_ids(prompt: list[Any]) -> bool:
    return bool(prompt) and isinstance(prompt[0], int)


def _only_text(body: Mapping[str, Any]) -> bool:
    """Whether all that a call holds is text, and nothing that it only names."""
    if any(body.get(name) for name in _NAMES_MORE) or isinstance(body.get("prompt"), dict):
        return False
    for tool in body.get("tools") or ():
        if isinstance(tool, dict) and tool.get("type", "function") != "function":
            return False
    messages = body.get("messages") or body.get("input") or []
    if not isinstance(messages, list):
        return True
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list) and not all(
            isinstance(part, dict) and part.get("type") in _TEXT_PARTS for part in content
        ):
            return False
    return True
