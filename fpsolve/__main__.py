"""``python -m fpsolve`` is the command line of :mod:`fpsolve.cli`."""

import sys

from fpsolve.cli import main

if __name__ == "__main__":
    sys.exit(main())
