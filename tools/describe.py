"""The same as `kyolo describe`, for a clone that is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kyolo.cli import main

if __name__ == "__main__":
    sys.exit(main(["describe", *sys.argv[1:]]))
