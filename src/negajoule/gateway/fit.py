"""Whether a server could answer a call at all, as far as its plan tells; asked before anything is sent.

A prompt's tokens can't be counted here. But the longest token of OpenAI's vocabulary ``o200k_base`` is 128
spaces, and we know of no longer one elsewhere, so a prompt has at least its bytes divided by that; the true
count is mostly near a quarter of the bytes. A call that surely doesn't fit is refused; one that likely
doesn't fit goes to a server with more room, if there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from negajoule.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from negajoule.gateway.plan import UpstreamPlan
    from negajoule.gateway.wire import Call

__all__ = ["Needs", "texts_of"]

_MOST_BYTES_PER_TOKEN = 128
_USUAL_BYTES_PER_TOKEN = 4
_PARTS = {
    "image_url": "vision",
    "input_audio": "audio",
    "file": "files",
}


class Needs(NamedTuple):
    """What a call needs of a model.

    Attributes:
        least_tokens: the fewest tokens that prompt and answer can take up.
        likely_tokens: how many they likely take up.
        capabilities: what the model must be able to do, each with the field that asks for it.
        counts: whether only the prompt's tokens are to be counted.
    """

    least_tokens: int
    likely_tokens: int
    capabilities: dict[str, str]
    counts: bool = False

    @classmethod
    def of(cls, call: Call) -> Needs:
        """Look at a call's body."""
        body = call.body()
        if call.task == "count":
            return cls(0, 0, {}, counts=True)
        capabilities: dict[str, str] = {}
        if body.get("tools"):
            capabilities["tools"] = "tools"
        form = body.get("response_format")
        if isinstance(form, dict) and form.get("type") not in (None, "text"):
            capabilities["json"] = "response_format"
        size = 0
        for text, kind in texts_of(body):
            size += len(text.encode("utf-8", "surrogatepass"))
            if kind in _PARTS:
                capabilities[_PARTS[kind]] = "messages"
        caps = [body.get(name) for name in ("max_completion_tokens", "max_tokens")]
        answer = next((cap for cap in caps if isinstance(cap, int)), 0)
        return cls(
            answer + size // _MOST_BYTES_PER_TOKEN, answer + size // _USUAL_BYTES_PER_TOKEN, capabilities
        )

    def refusal(self, plan: UpstreamPlan, model: str) -> RequestError | None:
        """Why a server surely can't answer; ``None`` if it may."""
        if self.counts and "count_tokens" not in plan.native:
            return RequestError(
                f"the server of the model {model!r} counts no tokens for others",
                code="R103",
                status=404,
                param="model",
                fix='ask a model of Anthropic\'s, or have the operator state native = ["count_tokens"]',
            )
        room = plan.context_tokens
        if room is not None and self.least_tokens > room:
            return RequestError(
                f"prompt and answer take at least {self.least_tokens} tokens; {model!r} has room for {room}",
                code="R104",
                param="messages",
                fix="shorten the prompt or ask for a shorter answer",
            )
        if plan.capabilities is not None:
            for capability, field in self.capabilities.items():
                if capability not in plan.capabilities:
                    return RequestError(
                        f"the model {model!r} can't do what {field!r} asks for ({capability})", param=field
                    )
        return None

    def is_tight(self, plan: UpstreamPlan) -> bool:
        """Whether the call likely doesn't fit."""
        return plan.context_tokens is not None and self.likely_tokens > plan.context_tokens


def texts_of(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts of a prompt, and the kinds of its other parts."""
    prompt = body.get("prompt")
    for text in prompt if isinstance(prompt, list) else [prompt]:
        if isinstance(text, str):
            yield text, "text"
    for message in body.get("messages") or ():
        content = message.get("content")
        if isinstance(content, str):
            yield content, "text"
        elif isinstance(content, list):
            for part in content:
                text, kind = part.get("text"), part.get("type")
                yield text if isinstance(text, str) else "", kind if isinstance(kind, str) else "text"
