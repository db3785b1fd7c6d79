"""Rare events: the most probable way of an escape and its exponent."""

from ._action import minimum_action_path, quasipotential
from ._cycles import limit_cycle

__all__ = ["limit_cycle", "minimum_action_path", "quasipotential"]
