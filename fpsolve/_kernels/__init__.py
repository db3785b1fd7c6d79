"""Numba kernels: arrays in, arrays out; import numpy, numba, math and _jit only."""
