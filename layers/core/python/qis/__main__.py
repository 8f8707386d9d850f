"""``python -m qis``: the command line."""

from qis.cli import main

main()
