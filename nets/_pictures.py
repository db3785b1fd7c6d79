"""The Axes that a picture is drawn on: those given, or new ones."""

from fpsolve._pictures import axes

__all__ = ["axes"]
