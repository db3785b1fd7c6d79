"""The least that a process with a kernel does: one function, compiled once and loaded from Numba's cache."""

import numba


@numba.njit("f8(f8)", cache=True)
def successor(x):
    return x + 1.0


successor(1.0)
