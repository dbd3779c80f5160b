"""The command line: `kyolo train | evaluate | predict | export`."""

from kyolo.cli.entry import main as main

__all__ = ["main"]
