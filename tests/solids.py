"""Triangulated surfaces to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def icosphere(level: int) -> tuple[Array, Array]:
    """A sphere of 20·4^level triangles, whose outsides are counterclockwise."""
    g = (1 + 5**0.5) / 2
    vertices = np.array([[0, a, b * g] for a in (-1, 1) for b in (-1, 1)], float)
    vertices = np.concatenate([np.roll(vertices, k, axis=1) for k in range(3)])
    apart = np.linalg.norm(vertices[:, None] - vertices, axis=2)
    near = np.isclose(apart, 2)
    faces = np.array(
        [(i, j, k) for i in range(12) for j in range(i) for k in range(j) if near[i, j] & near[j, k] & near[i, k]]
    )
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    inwards = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0
    faces[inwards] = faces[inwards][:, ::-1]
    for _ in range(level):
        pairs = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        edges, at = np.unique(pairs, axis=0, return_inverse=True)
        ab, bc, ca = at.reshape(3, -1) + len(vertices)
        vertices = np.concatenate([vertices, vertices[edges].mean(axis=1)])
        a, b, c = faces.T
        faces = np.concatenate([np.stack(f, axis=1) for f in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    return vertices / np.linalg.norm(vertices, axis=1, keepdims=True), faces
