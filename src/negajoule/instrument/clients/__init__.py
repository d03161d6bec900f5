"""Following other people's model clients: one call, every request booked.

- ``instrumentation``: the one call, and the handle that ends it
- ``account``: cost, ledger, telemetry; what goes wrong is a gap and never the program's error
- ``call``: one request, booked once however it ends
- ``answers``: token counts and footprints in the answers of each API
- ``streams``: streams, followed and never hurried
- ``cost``: from tokens and an address to a footprint
- ``providers``: the provider's name in telemetry
- ``patches``: our functions in other people's classes, and out again
- ``stainless``: the ``openai`` and ``anthropic`` clients
- ``genai``: the ``google-genai`` client
"""

from negajoule.instrument.clients.instrumentation import Instrumentation, instrument_clients

__all__ = ["Instrumentation", "instrument_clients"]
