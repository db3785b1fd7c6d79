"""The one exception of fpsolve's own: numerics that failed although the input was valid."""

__all__ = ["FpsolveError"]


class FpsolveError(RuntimeError):
    """A computation failed numerically: the message says where, and what to try next.

    Wrong input raises ValueError or TypeError instead, before any work starts.

    Examples
    --------
    >>> issubclass(FpsolveError, RuntimeError)
    True
    """
