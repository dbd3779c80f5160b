"""`python -m kyolo`: the command line."""

import sys

from kyolo.cli import main

if __name__ == "__main__":
    sys.exit(main())
