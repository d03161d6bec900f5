"""Which of several servers of the same models answers: the least busy, unless staying saves more.

A server that computed a conversation's beginning may still keep it. Sending the next turn elsewhere computes
it again; sending it there lets it wait behind others. So a conversation stays where it was while

    joules of computing its beginning again  >  imbalance_j * (calls running there - calls running at the
                                                               least busy replica)

The left side is the estimate for the tokens of the last turn's prompt, not cached less all cached. The right
side is the operator's: what it is worth, in joules, to be spared one call more than the least busy replica
has. Where the left side isn't known, a conversation stays only if that costs nothing.

A conversation is known by its model and its messages up to the first of the user. What isn't in the table
goes to the least busy replica; among equals it is the same one in every worker and on every host (rendezvous
hashing, Thaler and Ravishankar, IEEE/ACM Transactions on Networking 6, 1998), so that workers that share
nothing agree.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from negajoule.gateway.accounts import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from negajoule.gateway.routes import Route
    from negajoule.gateway.server import Server
    from negajoule.gateway.wire import Call

__all__ = ["Replicas", "conversation_of"]

_REMEMBERED = 10_000
_KEPT_S = 600.0  # how long a server is taken to keep a prompt; a choice
_BYTES_PER_TOKEN = 4  # as in ``fit``


class _Stay(NamedTuple):
    server: str
    prompt_bytes: int
    seen_s: float


class Replicas:
    """Puts the servers of one call in order.

    Args:
        running: how many calls run at a server.
        clock: monotonic [s].
    """

    def __init__(
        self, running: Callable[[Server], int], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._running = running
        self._clock = clock
        self._stays: OrderedDict[bytes, _Stay] = OrderedDict()
        self.stayed = self.moved = 0

    def __len__(self) -> int:
        return len(self._stays)

    def order(self, call: Call, routes: Sequence[Route]) -> list[Route]:
        """The routes of a call, those of the first one's replicas in order of preference.

        Args:
            call: the call.
            routes: its ways; the first is one of several replicas.
        """
        group = routes[0].server.plan.replica_of
        replicas = [route for route in routes if route.server.plan.replica_of == group]
        others = [route for route in routes if route.server.plan.replica_of != group]
        now_s = self._clock()
        able = [r for r in replicas if r.server.breaker.state(now_s) == "closed"] or replicas
        conversation = conversation_of(call)
        loads = {route.server.plan.name: self._running(route.server) for route in replicas}
        able.sort(key=lambda route: (loads[route.server.plan.name], _rank(conversation, route.server)))
        stay = self._stays.get(conversation)
        if stay is not None and now_s - stay.seen_s < _KEPT_S:
            home = next((route for route in able if route.server.plan.name == stay.server), None)
            if home is not None and home is not able[0]:
                more = loads[stay.server] - loads[able[0].server.plan.name]
                if _worth_staying(home, stay, more):
                    able.remove(home)
                    able.insert(0, home)
                    self.stayed += 1
                else:
                    self.moved += 1
        self._remember(conversation, _Stay(able[0].server.plan.name, len(call.raw), now_s))
        return [*able, *(route for route in replicas if route not in able), *others]

    def _remember(self, conversation: bytes, stay: _Stay) -> None:
        self._stays[conversation] = stay
        self._stays.move_to_end(conversation)
        if len(self._stays) > _REMEMBERED:
            self._stays.popitem(last=False)


def _worth_staying(home: Route, stay: _Stay, more: int) -> bool:
    """Whether computing the beginning again takes more than the imbalance is worth [J]."""
    cost_j = home.server.plan.imbalance_j * more
    if cost_j <= 0:
        return True
    tokens = stay.prompt_bytes // _BYTES_PER_TOKEN
    anew = home.server.estimate(home.model, Tokens(tokens, 0, 0))
    kept = home.server.estimate(home.model, Tokens(tokens, tokens, 0))
    if anew is None or kept is None or anew.it_energy is None or kept.it_energy is None:
        return False
    return anew.it_energy.value - kept.it_energy.value > cost_j


def conversation_of(call: Call) -> bytes:
    """What all turns of a conversation have in common; its hash, so that no prompt is kept."""
    body = call.body()
    messages = body.get("messages")
    said: list[object] = []
    if isinstance(messages, list):
        for message in messages:
            said.append(message)
            if isinstance(message, dict) and message.get("role") == "user":
                break
    else:
        said = [body.get("prompt"), body.get("input")]
    return hashlib.blake2b(
        msgspec.json.encode((call.model, body.get("tools"), said)), digest_size=16
    ).digest()


def _rank(conversation: bytes, server: Server) -> bytes:
    return hashlib.blake2b(conversation + server.plan.name.encode(), digest_size=8).digest()
