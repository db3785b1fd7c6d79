"""The same problem put to fpsolve and to other packages, side by side: time beside accuracy. `python bench/peers --help`."""
