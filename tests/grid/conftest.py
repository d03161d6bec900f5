"""The playing server, for all tests of the room."""

from playing_apis import api

__all__ = ["api"]
