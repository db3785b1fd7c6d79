"""Surfaces of regions in many dimensions: faces and normals as panel functions and as arrays, without symbols."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._code import Code
from ._passage import surface_codes
from ._rows import Rows, _function, rows_of
from .region import Region

__all__ = ["Surface", "make_surface"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """`count` smooth faces of a region, whose maximum is g, and their slopes."""

    region: Region
    count: int
    faces: Rows
    slopes: Rows
    planes: Array | None = None  # (faces, d + 1): normals and offsets, where all faces are planes
    slope_code: Code | None = None

    def normals(self, points: Array) -> Array:
        """Gradients of the faces at points (n, d): shape (n, faces, d)."""
        if self.planes is not None:
            return np.repeat(self.planes[None, :, :-1], len(points), axis=0)
        if self.slope_code is None:
            center = self.region.code.values[:-1]  # type: ignore[attr-defined]
            away = points - center
            length = np.linalg.norm(away, axis=1, keepdims=True)
            return np.asarray((away / np.where(length > 0.0, length, 1.0))[:, None])
        values = self.slope_code.evaluate(points, self.region.params)
        return np.asarray(values.reshape(len(points), self.count, -1))


def make_surface(region: Region) -> Surface:
    """The surface of a region.

    Raises
    ------
    ValueError
        If it can never be left, or its function has no form for many dimensions.
    """
    code, kind, d = region.code, getattr(region.code, "kind", ""), region.dim
    if kind in ("halfspace", "box"):
        planes = _planes(kind, code.values, d)  # type: ignore[attr-defined]
        if not len(planes):
            raise ValueError(f"{region!r} can never be left: its g is negative everywhere; give a region with a surface")
        return Surface(region, len(planes), *_plane_rows(planes), planes)
    if kind == "ball":
        return Surface(region, 1, *_ball_rows(code.values, d))  # type: ignore[attr-defined]
    faces, slopes = surface_codes(code)
    slopes = getattr(code, "slope_code", None) or slopes
    rows = rows_of(faces, "faces_rows", region.params), rows_of(slopes, "slopes_rows", region.params)
    return Surface(region, faces.n_out, *rows, slope_code=slopes)


def _planes(kind: str, values: Array, d: int) -> Array:
    """Rows (n, c) with g = n.x - c."""
    if kind == "halfspace":
        return np.asarray(values[None].copy())
    rows = []
    for axis in range(d):
        for sign, at in ((-1.0, values[axis]), (1.0, values[d + axis])):
            if abs(at) < 1e300:
                rows.append(np.append(sign * np.eye(1, d, axis)[0], sign * at))
    return np.array(rows).reshape(-1, d + 1)


def _plane_rows(planes: Array) -> tuple[Rows, Rows]:
    """Products with the entries that are not zero: of a face of a box there is one."""
    F, d = planes.shape[0], planes.shape[1] - 1
    where = [np.flatnonzero(row[:-1]) for row in planes]
    starts = np.concatenate([[0], np.cumsum([len(w) for w in where])])
    total = int(starts[-1])
    values = np.concatenate([starts, np.concatenate(where), np.concatenate([r[w] for r, w in zip(planes, where, strict=True)])])
    values = np.concatenate([values, planes[:, -1]])
    columns, entries, offsets = F + 1, F + 1 + total, F + 1 + 2 * total
    head = [f"for f in range({F}):"]
    faces = [
        *head,
        "    for i in range(64):",
        f"        out[f*64 + i] = -p[{offsets} + f]",
        "    for n in range(int(p[f]), int(p[f + 1])):",
        f"        k, c = int(p[{columns} + n]), p[{entries} + n]",
        "        for i in range(64):",
        "            out[f*64 + i] += c*x[k*64 + i]",
    ]
    slopes = [
        f"for i in range({64 * F * d}):",
        "    out[i] = 0.0",
        *head,
        "    for n in range(int(p[f]), int(p[f + 1])):",
        f"        k, c = int(p[{columns} + n]), p[{entries} + n]",
        "        for i in range(64):",
        f"            out[(f*{d} + k)*64 + i] = c",
    ]
    return Rows(_function("faces_rows", faces), values), Rows(_function("slopes_rows", slopes), values)


def _ball_rows(values: Array, d: int) -> tuple[Rows, Rows]:
    length = ["for i in range(64):", "    t[i] = 0.0", f"for k in range({d}):", "    c = p[k]", "    for i in range(64):"]
    length += ["        t[i] += (x[k*64 + i] - c)*(x[k*64 + i] - c)", "for i in range(64):", "    t[i] = sqrt(t[i])"]
    faces = [*length, "for i in range(64):", f"    out[i] = t[i] - p[{d}]"]
    slopes = [*length, f"for k in range({d}):", "    c = p[k]", "    for i in range(64):"]
    slopes += ["        out[k*64 + i] = ratio(x[k*64 + i] - c, t[i], 1.0)"]
    return Rows(_function("faces_rows", faces), values, 1), Rows(_function("slopes_rows", slopes), values, 1)
