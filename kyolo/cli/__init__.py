"""The command line: `kyolo train | evaluate | predict | export | convert`."""

from kyolo.cli.entry import main as main

__all__ = ["main"]
