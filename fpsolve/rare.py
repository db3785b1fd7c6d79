"""Rare events: rates that no direct simulation reaches, the most probable way of an escape and its exponent."""

from ._action import minimum_action_path, quasipotential
from ._cycles import limit_cycle
from ._splitting import multilevel_splitting

__all__ = ["limit_cycle", "minimum_action_path", "multilevel_splitting", "quasipotential"]
