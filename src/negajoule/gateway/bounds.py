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

__all__ = ["INDICATORS", "Ask", "Rates", "figures", "only_text"]

INDICATORS = ("J", "gCO2e", "L")
"""What can be bounded of a footprint; money is bounded in ``prices``."""

MARGIN = 2.0
"""How much more than any call seen the next one may take for a token [1]; a choice, not a measurement."""

_REMEMBERED = 256
_KEPT = 4096  # clients choose the names of models
_NOTHING: dict[str, float | None] = dict.fromkeys(INDICATORS, 0.0)
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
        if only_text(body):
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
        self._seen: dict[str, tuple[_Latest, ...]] = {}
        self._theirs: dict[tuple[str, int, int, int], dict[str, float | None]] = {}

    def known(self, model: str) -> bool:
        """Whether a bound can be given without a call to learn from."""
        return self._estimate is not None or model in self._seen

    def forget_estimates(self) -> None:
        """Other servers stand behind the models now."""
        self._theirs.clear()

    def bound(self, model: str, tokens: Tokens | None) -> dict[str, float | None]:
        """By indicator, the most a call can use; ``None`` where that isn't known.

        Until a call has shown what passing on takes here, it is taken for no more than the model's own share.
        """
        if tokens is None:
            return dict.fromkeys(INDICATORS)
        theirs: Mapping[str, float | None] = _NOTHING
        if self._estimate is not None:
            theirs = self._most(model, tokens)
        count = (tokens.prompt or 0) + (tokens.output or 0)
        seen = self._seen.get(self._place(model))
        bounds: dict[str, float | None] = {}
        for place, name in enumerate(INDICATORS):
            their = own = theirs[name]
            if seen is not None:
                highest = seen[place].highest
                own = None if highest is None else highest * MARGIN * count
            bounds[name] = None if their is None or own is None else their + own
        return bounds

    def learn(self, model: str, tokens: Tokens, own: Footprint) -> None:
        """Take up what a call that ended well took of this machine."""
        if tokens.prompt is None or tokens.output is None:
            return
        computed = tokens.prompt - (tokens.cached or 0) + tokens.output
        if computed <= 0:
            return  # an answer out of a cache shows nothing of what a token takes
        high, value = figures(own, "high"), figures(own, "value")
        seen = self._seen.get(self._place(model))
        if seen is None:
            seen = self._seen[self._place(model)] = tuple(_Latest() for _ in INDICATORS)
        for name, latest in zip(INDICATORS, seen, strict=True):
            top, best = high[name], value[name]
            latest.add(None if top is None or best is None else max(0.0, top, best) / computed)

    def _most(self, model: str, tokens: Tokens) -> Mapping[str, float | None]:
        """The high end of the estimate for no fewer tokens: lengths are rounded up and results kept.

        More tokens never cost less, so what bounds the rounded call bounds the call.
        """
        assert self._estimate is not None, "only upstreams are estimated"
        prompt, output = _rounded_up(tokens.prompt or 0), _rounded_up(tokens.output or 0)
        key = (model, prompt, tokens.cached or 0, output)
        found = self._theirs.get(key)
        if found is None:
            if len(self._theirs) >= _KEPT:
                self._theirs.clear()
            found = figures(self._estimate(model, tokens._replace(prompt=prompt, output=output)), "high")
            self._theirs[key] = found
        return found

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


class _Latest:
    """The highest of the latest rates, without a look at each."""

    __slots__ = ("_highest", "_rates", "_unknown")

    def __init__(self) -> None:
        self._rates: deque[float | None] = deque()
        self._unknown = 0
        self._highest = 0.0

    @property
    def highest(self) -> float | None:
        """The highest; ``None`` if one of them isn't known."""
        return None if self._unknown else self._highest

    def add(self, rate: float | None) -> None:
        """Take up a rate, and forget the oldest of too many."""
        rates = self._rates
        rates.append(rate)
        if rate is None:
            self._unknown += 1
        elif rate > self._highest:
            self._highest = rate
        if len(rates) > _REMEMBERED:
            oldest = rates.popleft()
            if oldest is None:
                self._unknown -= 1
            elif oldest >= self._highest:
                self._highest = max((one for one in rates if one is not None), default=0.0)


def _rounded_up(tokens: int) -> int:
    """To five significant bits, at most a sixteenth more."""
    step = 1 << max(0, tokens.bit_length() - 5)
    return -(-tokens // step) * step


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 1


def _is_ids(prompt: list[Any]) -> bool:
    return bool(prompt) and isinstance(prompt[0], int)


def only_text(body: Mapping[str, Any]) -> bool:
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
