"""Other dialects than OpenAI's chat completions: pure translation, no connections.

- ``anthropic``: Anthropic Messages, both ways
- ``gemini``: Gemini's generateContent, both ways
- ``responses``: OpenAI's Responses API over chat completions
- ``embeddings``: requests and answers of embeddings
- ``errors``: every dialect's errors
- ``provider``: where each provider listens, as data
- ``asked``: what an OpenAI request asks for
- ``frame``: what every OpenAI chunk repeats
- ``usage``: token counts
- ``events``: events of a stream
- ``reading``: reading JSON that somebody else wrote
"""
