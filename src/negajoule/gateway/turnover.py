"""Other servers in the place of those that run, without a lost call.

New calls go to the new servers at once. Calls under way end at the servers they were begun with, fallbacks
included; a server that is no longer wanted is let go once no call can come to it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from negajoule.gateway.routes import Routes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from negajoule.gateway.server import Server
    from negajoule.gateway.upstream import Fleet

__all__ = ["replace_servers"]

_LOOK_AGAIN_S = 0.5


def replace_servers(fleet: Fleet, servers: Sequence[Server]) -> None:
    """Pass calls on to these servers from now on; to be called from the thread of the event loop.

    Args:
        fleet: passes calls on.
        servers: in order of preference; one that stays may be among them, with its connections and breaker.
    """
    gone = [server for server in fleet.routes.servers if server not in servers]
    fleet.routes = Routes(servers)
    fleet.retired += gone
    if gone:
        leaving = asyncio.get_running_loop().create_task(_let_go(fleet, gone))
        fleet.leaving.add(leaving)
        leaving.add_done_callback(fleet.leaving.discard)


async def _let_go(fleet: Fleet, gone: Sequence[Server]) -> None:
    for server in gone:
        while fleet.may_ask(server):
            await asyncio.sleep(_LOOK_AGAIN_S)
        await server.close()
        fleet.retired.remove(server)
