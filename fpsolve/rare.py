"""Rare events: rates of leaving a region that no direct simulation reaches."""

from __future__ import annotations

from ._splitting import multilevel_splitting

__all__ = ["multilevel_splitting"]
