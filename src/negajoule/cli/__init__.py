"""The command line, one module a command.

- ``main``: the table of commands, loaded lazily
- ``output``: data to stdout, words to stderr, ``--json``
- ``card``: a footprint as a card for the terminal
- ``catalog`` ``config`` ``doctor`` ``explain`` ``grid`` ``play`` ``report`` ``run`` ``serve``: the commands
"""
