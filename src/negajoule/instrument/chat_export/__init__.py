"""The footprint of one's own chat history, from the archives that ChatGPT and Claude give their users.

- ``archive``: files, folders and zip archives; what is wrong with them
- ``tokens``: tokens of a text, from its characters
- ``reply``: what a parser finds: replies with their lengths, and what it can't tell
- ``chatgpt``: conversations of ChatGPT
- ``claude``: conversations of Claude
- ``models``: names in the archives to models whose size is known
- ``history``: replies to footprints, by month and model
"""

from negajoule.instrument.chat_export.archive import KINDS
from negajoule.instrument.chat_export.history import ChatHistory, ChatRow, read_history

__all__ = ["KINDS", "ChatHistory", "ChatRow", "read_history"]
