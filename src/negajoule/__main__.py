"""``python -m negajoule`` is the command ``negajoule``."""

from negajoule.cli.main import main

main()
