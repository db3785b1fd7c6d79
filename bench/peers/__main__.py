"""Command line: see `peers._command`."""

import sys
from pathlib import Path

if __package__ in (None, ""):  # python bench/peers: this folder is on the path where the one above it should be
    sys.path[0] = str(Path(__file__).parent.parent)

from peers._command import main

if __name__ == "__main__":
    sys.exit(main())
