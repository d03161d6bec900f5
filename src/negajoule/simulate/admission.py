"""Who joins a replica's batch between two steps, by mode of batching, within slots, tokens and KV cache.

- chunked: every step decodes all and fills the rest of ``step_tokens`` with prompt parts, first come first
  served
- prefill first: whole prompts, as many as ``step_tokens`` hold, in a step of their own while decoding waits
- Orca: whole prompts join the decoding step; the KV cache is set aside for the whole answer, so none is
  pre-empted
- static: a batch is formed when the last one is done, padded to its longest prompt and answer
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negajoule.simulate import layout as at
from negajoule.simulate.batch import add

if TYPE_CHECKING:
    from negajoule.simulate.layout import State

__all__ = ["admit", "admit_whole_batch"]


def admit(s: State, replica: int, mode: int, now_s: float) -> tuple[int, int, int]:
    """Take in from the queue what the next step can compute.

    Returns:
        Prompt tokens n of the step, the sum of 2 p n + n^2 over its parts, and the first request (linked by
        ``NEXT``) whose prompt it completes.
    """
    own = replica * at.WHOLES
    w, facts, fleet = s.wholes, s.facts, s.fleet_wholes
    tokens, square, joining, size = 0, 0, 0, 0
    done, last = at.NONE, at.NONE
    if w[own + at.PART] != at.NONE:
        kept = w[own + at.PART_DONE]
        left = w[own + at.PART_ALL] - kept
        new = min(left, fleet[at.STEP_TOKENS] - w[own + at.BATCH])
        tokens, square = new, 2 * kept * new + new * new
        w[own + at.PART_DONE] = kept + new
        if new == left:
            done = last = w[own + at.PART]
            joining, size = 1, w[own + at.PART_ALL]
            facts[done * at.FACTS + at.NEXT] = at.NONE
            w[own + at.PART] = at.NONE
    while w[own + at.HEAD] != at.NONE and w[own + at.PART] == at.NONE:
        request = w[own + at.HEAD]
        record = request * at.FACTS
        context = facts[record + at.PROMPT] + facts[record + at.MADE]
        if w[own + at.BATCH] + joining >= fleet[at.MAX_BATCH]:
            break
        room = fleet[at.STEP_TOKENS] - w[own + at.BATCH] - tokens
        if mode == at.CHUNKED and room <= 0:
            break
        if not _fits(s, replica, mode, request, context, joining, size):
            break
        if facts[record + at.OUTCOME] == at.CARRIED:
            ready_s = (
                s.times[request * at.TIMES + at.FIRST]
                + s.fleet_reals[at.TRANSFER_S] * facts[record + at.PROMPT]
            )
            if ready_s > now_s:
                break
            _take_head(s, own)
            facts[record + at.OUTCOME] = at.OPEN
            remaining = facts[record + at.ANSWER] - facts[record + at.MADE]
            count = w[own + at.COUNT]
            add(s, replica, request, count + remaining, context - count)
            w[own + at.BATCH] += 1
            w[own + at.CONTEXT] += context
            continue
        kept = min(facts[record + at.KEPT], context - 1)
        left = context - kept
        if mode == at.PREFILL_FIRST and tokens > 0 and tokens + left > fleet[at.STEP_TOKENS]:
            break
        _take_head(s, own)
        if mode == at.ORCA:
            w[own + at.RESERVED] += facts[record + at.PROMPT] + facts[record + at.ANSWER]
        new = min(left, room) if mode == at.CHUNKED else left
        tokens += new
        square += 2 * kept * new + new * new
        if new < left:
            w[own + at.PART] = request
            w[own + at.PART_DONE] = kept + new
            w[own + at.PART_ALL] = context
            break
        joining += 1
        size += context
        facts[record + at.NEXT] = at.NONE
        if done == at.NONE:
            done = request
        else:
            facts[last * at.FACTS + at.NEXT] = request
        last = request
    return tokens, square, done


def _fits(s: State, replica: int, mode: int, request: int, context: int, joining: int, size: int) -> bool:
    """Whether the KV cache has room; an empty replica always has, for what can't fit never gets here."""
    own = replica * at.WHOLES
    if s.wholes[own + at.BATCH] + joining == 0:
        return True
    if mode == at.ORCA:
        record = request * at.FACTS
        whole = s.facts[record + at.PROMPT] + s.facts[record + at.ANSWER]
        return s.wholes[own + at.RESERVED] + whole <= s.fleet_wholes[at.KV_TOKENS]
    return s.wholes[own + at.CONTEXT] + size + context <= s.fleet_wholes[at.KV_ADMIT]


def admit_whole_batch(s: State, replica: int) -> tuple[int, int, int]:
    """Form a static batch if none runs; results as of ``admit``."""
    own = replica * at.WHOLES
    w, facts, fleet = s.wholes, s.facts, s.fleet_wholes
    done, last = at.NONE, at.NONE
    number, prompt, answer = 0, 0, 0
    while w[own + at.BATCH] == 0 and w[own + at.HEAD] != at.NONE and number < fleet[at.MAX_BATCH]:
        request = w[own + at.HEAD]
        record = request * at.FACTS
        longest_prompt = max(prompt, facts[record + at.PROMPT])
        longest_answer = max(answer, facts[record + at.ANSWER])
        padded = (number + 1) * (longest_prompt + longest_answer)
        if number > 0 and padded > fleet[at.KV_TOKENS]:
            break
        prompt, answer = longest_prompt, longest_answer
        _take_head(s, own)
        number += 1
        facts[record + at.NEXT] = at.NONE
        if done == at.NONE:
            done = request
        else:
            facts[last * at.FACTS + at.NEXT] = request
        last = request
    return number * prompt, number * prompt * prompt, done


def _take_head(s: State, own: int) -> None:
    head = s.wholes[own + at.HEAD]
    s.wholes[own + at.HEAD] = s.facts[head * at.FACTS + at.NEXT]
