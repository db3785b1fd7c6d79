"""Inlined helpers of kernels have no entry for Python; here they get one."""

from fpsolve._jit import kernel_uncached


def entry(inner):
    """The compiled helper as a function that Python can call."""
    return kernel_uncached(lambda *values: inner(*values))
