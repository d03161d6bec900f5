"""The OpenAI-compatible server that knows what each answer cost.

Who may ask, and within which limits:

- ``keys``: the file of API keys
- ``keyring``: the keys in memory, reloaded when the file changes
- ``caller``: who asks
- ``door``: who may come in, by which key, to what
- ``limits``: how much and how long
- ``listener``: what a connection may do before its request is there
- ``intake``: a request's body, no larger than allowed
- ``headers``: which headers go on to an upstream

From request to answer:

- ``wire``: OpenAI's wire format and the shape of an error
- ``sse``: server-sent events, cut from a byte stream
- ``adapters``: other providers' formats
- ``dialects``: the formats that clients may ask in
- ``app``: calls to a model, and how they end
- ``pages``: everything else
- ``reply``: the answer to one request

What stands behind:

- ``backend``: what the server expects of it
- ``local``: the embedded engine
- ``upstream``: other servers, asked again and elsewhere where one fails
- ``plan``: which servers those are
- ``routes``: which of them answers a call
- ``fit``: whether it could
- ``replicas``: which of several that are alike
- ``turnover``: others in their place while they run
- ``colocated``: the joules of one that runs on this machine
- ``server``: one of them
- ``hop``: the connections to it
- ``words``: a call in its dialect
- ``breaker``: leaves it alone while it keeps failing
- ``retry``: when to try again
- ``upstream_cost``: the estimate of what its model costs
- ``bounds``: the most a call can use
- ``prices``: what it costs in money
- ``spending``: what reaches it within its budgets
- ``cache``: answers kept in memory
- ``cached``: what is answered from there, and what that avoided
- ``shaped``: calls that are held for a while and go together
- ``batches``: work that may wait for a day, left here in files
- ``routed``: models of a pool that answer for each other
- ``pool_plan``: which pools there are
- ``pool``: one of them at work
- ``decisions``: what was decided, for who judges it
- ``route_pages``: asking for decisions, judging answers
- ``several``: several embedded engines
- ``standing``: how a caller's budgets stand

What is kept and told:

- ``accounts``: shares to footprints, rows and counters
- ``metrics``: Prometheus
- ``visit``, ``logs``, ``traces``: one line and one span a request

Names load their module when they are first used, so that the keys can be had without the server.
"""

from negajoule.lazy import names_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from negajoule.gateway.accounts import Accounts, Tokens
    from negajoule.gateway.app import Gateway, create_app
    from negajoule.gateway.bounds import Rates
    from negajoule.gateway.door import Door
    from negajoule.gateway.keyring import KeyRing
    from negajoule.gateway.keys import KeyFile
    from negajoule.gateway.limits import Limits
    from negajoule.gateway.listener import uvicorn_options
    from negajoule.gateway.local import EngineBackend
    from negajoule.gateway.metrics import Metrics
    from negajoule.gateway.spending import BudgetedBackend, Degrading
    from negajoule.gateway.standing import standing_page
    from negajoule.gateway.upstream import Fleet, UpstreamBackend
    from negajoule.gateway.upstream_cost import upstream_cost

__all__ = [
    "Accounts",
    "BudgetedBackend",
    "Degrading",
    "Door",
    "EngineBackend",
    "Fleet",
    "Gateway",
    "KeyFile",
    "KeyRing",
    "Limits",
    "Metrics",
    "Rates",
    "Tokens",
    "UpstreamBackend",
    "create_app",
    "standing_page",
    "upstream_cost",
    "uvicorn_options",
]

__getattr__ = names_from(
    globals(),
    {
        "Accounts": ".accounts",
        "BudgetedBackend": ".spending",
        "Degrading": ".spending",
        "Door": ".door",
        "EngineBackend": ".local",
        "Fleet": ".upstream",
        "Gateway": ".app",
        "KeyFile": ".keys",
        "KeyRing": ".keyring",
        "Limits": ".limits",
        "Metrics": ".metrics",
        "Rates": ".bounds",
        "Tokens": ".accounts",
        "UpstreamBackend": ".upstream",
        "create_app": ".app",
        "standing_page": ".standing",
        "upstream_cost": ".upstream_cost",
        "uvicorn_options": ".listener",
    },
)
