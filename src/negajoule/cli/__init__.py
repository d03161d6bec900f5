"""The command line, one module a command.

- ``main``: the table of commands, loaded lazily
- ``output``: data to stdout, words to stderr, ``--json``
- ``span``: 30m, 12h, 7d, 4w
- ``card``: a footprint as a card for the terminal
- ``frame``: a look at the machine as lines that fit a terminal
- ``budgeted``: a budget around a command
- ``look_back``: what was killed since the last command, booked
- ``budget`` ``calibrate`` ``catalog`` ``config`` ``doctor`` ``estimate`` ``explain`` ``grid`` ``play``
  ``report`` ``run`` ``serve`` ``watch``: the commands
"""
