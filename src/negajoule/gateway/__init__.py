"""The OpenAI-compatible server that knows what each answer cost.

- ``wire``: OpenAI's wire format and the shape of an error
- ``sse``: server-sent events, cut from a byte stream
- ``backend``: what stands behind the server
- ``local``: the embedded engine
- ``upstream``: any OpenAI-compatible server
- ``upstream_cost``: the estimate of what its model costs
- ``accounts``: shares to footprints, rows and counters
- ``metrics``: Prometheus
- ``app``: routes, limits, errors
"""

from negajoule.gateway.accounts import Accounts, Tokens
from negajoule.gateway.app import create_app
from negajoule.gateway.local import EngineBackend
from negajoule.gateway.metrics import Metrics
from negajoule.gateway.upstream import UpstreamBackend
from negajoule.gateway.upstream_cost import upstream_cost

__all__ = [
    "Accounts",
    "EngineBackend",
    "Metrics",
    "Tokens",
    "UpstreamBackend",
    "create_app",
    "upstream_cost",
]
