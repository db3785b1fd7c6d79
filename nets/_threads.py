"""One BLAS thread while small matrices are multiplied: the batches of SGD are too small to share out."""

from fpsolve._threads import single_threaded_blas

__all__ = ["single_threaded_blas"]
