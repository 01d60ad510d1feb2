"""The rules that every geometry keeps, for the tests of a geometry of your own."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from locality_prior._check import import_path, instance
from locality_prior.geometry import Distances, Geometry, Permuted, from_config, meet, near, to_config
from locality_prior.geometry.config import KINDS
from locality_prior.layers import LocalityLinear

#: How many rows of a large geometry are looked at.
ROWS = 64


def check_geometry(geometry: Geometry, *sources: Geometry) -> None:
    """Raise if ``geometry`` breaks one of the rules that the library relies on.

    A test of your own geometry calls it with an example or two:

    >>> import locality_prior as lp
    >>> from locality_prior.testing import check_geometry
    >>> check_geometry(lp.Grid(4, 5), lp.Grid(2, 3))

    The rules are:

    - Positions, if it has any, are finite, (n, d) float64 on the CPU, and a new tensor each time.
    - Distances are float64 of at least 0 and never NaN, whatever torch's default dtype and device are. Those from a
      geometry to itself are symmetric and 0 on the diagonal.
    - Rows of the distances are equal to those of the whole matrix. ``near`` gives exactly
      the pairs within a radius, row by row.
    - :meth:`~locality_prior.Geometry.arguments` makes an equal geometry with equal distances. So do the saved config
      and tensors, a copy, and a pickle.
    - A layer computes the same wire by wire as with the whole matrix P∘W.

    All distances are computed, so give a geometry of some dozens or hundreds of units.

    Args:
        geometry: the geometry to check. Its class is defined at the top of a module, so that it can be saved.
        sources: other geometries that it can be the target of.

    Raises:
        AssertionError: it breaks a rule, which the message names.
        ValueError, TypeError: what the geometry itself raises.
    """
    instance("geometry", geometry, Geometry, "a geometry")
    _positions(geometry)
    for source in (geometry, *(instance("sources", s, Geometry, "geometries") for s in sources)):
        d = geometry.distances(source).clone()
        _distances(geometry, source, d)
        finite = d[d.isfinite()].sort().values
        for radius in {0.0, math.inf, *(float(finite[int(k * (len(finite) - 1))]) for k in (0.1, 0.5))}:
            _near(geometry, source, d, radius)
        _defaults(geometry, source, d)
        _layer(geometry, source, d)
    _saving(geometry)


def _require(kept: object, rule: str, detail: object = "") -> None:
    if not kept:
        raise AssertionError(f"This rule is broken: {rule}{f' ({detail})' if detail else ''}.")


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def _positions(geometry: Geometry) -> None:
    try:
        positions = geometry.positions
    except ValueError:
        return  # it has only distances
    rule = "positions are finite, (n, d) float64 on the CPU, and a new tensor each time"
    _require(positions.ndim == 2 and len(positions) == len(geometry), rule, f"shape {tuple(positions.shape)}")
    _require(positions.dtype == torch.float64, rule, positions.dtype)
    _require(positions.device.type == "cpu", rule, positions.device)
    _require(positions.isfinite().all(), rule)
    before = positions.clone()
    positions.add_(1)
    _require(torch.equal(geometry.positions, before), rule, "changing them changes the geometry")


def _distances(geometry: Geometry, source: Geometry, d: Tensor) -> None:
    rule = "distances are (target units, source units), float64, on the CPU, at least 0 and not NaN"
    shape = geometry.shape if isinstance(geometry, Distances) else (len(geometry), len(source))
    _require(d.shape == shape, rule, tuple(d.shape))
    _require(d.dtype == torch.float64 and d.device.type == "cpu", rule, f"{d.dtype} on {d.device}")
    _require((d >= 0).all(), rule)
    measured = isinstance(geometry.base if isinstance(geometry, Permuted) else geometry, Distances)
    if source is geometry and not measured:
        rule = "distances from a geometry to itself are symmetric, and 0 on the diagonal"
        _require((d.diagonal() == 0).all() and _close(d, d.T), rule)
    rule = "rows that are asked for are rows of the whole"
    rows = torch.tensor([len(d) - 1, 0, len(d) - 1])
    _require(_close(geometry.distances(source, rows), d[rows]), rule)
    _require(geometry.distances(source, rows[:0]).shape == (0, d.shape[1]), rule, "no rows")


def _near(geometry: Geometry, source: Geometry, d: Tensor, radius: float) -> None:
    rule = f"near() gives each pair within the radius, here {radius:g}, once, in row-major order, with its distance"
    found = [torch.cat(parts) for parts in zip(*near(geometry, source, radius), strict=True)]
    i, j, lengths = found or [torch.empty(0, dtype=torch.int64)] * 2 + [torch.empty(0, dtype=torch.float64)]
    pairs = i * d.shape[1] + j
    _require((pairs.diff() > 0).all(), rule, "the order")
    _require(_close(lengths, d.flatten()[pairs]), rule, "the distances")
    # a distance at the radius itself may fall on either side of it by rounding
    surely, perhaps = ((d.flatten() <= radius * (1 + k * 1e-9) + k * 1e-12).nonzero()[:, 0] for k in (-1, 1))
    _require(torch.isin(surely, pairs).all() and torch.isin(pairs, perhaps).all(), rule, "which pairs")


def _defaults(geometry: Geometry, source: Geometry, d: Tensor) -> None:
    dtype, rows = torch.get_default_dtype(), torch.arange(min(len(d), ROWS), device="cpu")
    try:
        for changed in (torch.float64, torch.float32, torch.bfloat16):
            torch.set_default_dtype(changed)
            with torch.device("meta"):
                found = geometry.distances(source, rows)
            same = found.device.type == "cpu" and _close(found, d[rows])
            _require(same, "torch's default dtype and device change no distance", changed)
    finally:
        torch.set_default_dtype(dtype)


def _layer(geometry: Geometry, source: Geometry, d: Tensor) -> None:
    reach = float(_nearest(geometry, source, d).max())  # the least with which each unit has a wire
    if not math.isfinite(reach):
        return
    shape, cost, made = (d.shape[1], d.shape[0]), f"linear@{max(1.5 * reach, 1e-9)!r}", []
    for backend in ("dense", "windowed", "wires"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer = LocalityLinear(
                *shape, source=source, target=geometry, cost=cost, backend=backend, dtype=torch.float64
            )
            made.append(layer(torch.randn(3, d.shape[1], dtype=torch.float64)).detach())
        same = torch.allclose(made[-1], made[0], rtol=1e-9, atol=1e-9)
        _require(same, "a layer computes the same wire by wire as with the whole matrix", f"backend {backend}")


def _nearest(geometry: Geometry, source: Geometry, d: Tensor) -> Tensor:
    """How far each target unit is from the nearest source unit that may have a wire to it, if there is one."""
    wired = meet(geometry, source).wired
    if wired is None:
        return d.min(1).values
    there = torch.zeros(d.numel(), dtype=torch.bool).index_fill_(0, wired, True).reshape(d.shape)
    return torch.where(there, d, math.inf).min(1).values[there.any(1)]


def _saving(geometry: Geometry) -> None:
    d, custom = geometry.distances().clone(), _custom(geometry)
    config, tensors = to_config(geometry)
    ways: dict[str, Callable[[], Any]] = {
        "arguments()": lambda: type(geometry).from_arguments(**geometry.arguments()),
        "config()": lambda: from_config(json.loads(json.dumps(geometry.config(), allow_nan=False)), None, custom),
        "to_config()": lambda: from_config(json.loads(json.dumps(config, allow_nan=False)), tensors, custom),
        "copy.deepcopy": lambda: copy.deepcopy(geometry),
        "pickle": lambda: pickle.loads(pickle.dumps(geometry)),
    }
    rule = "arguments, config, tensors, copies and pickles make an equal geometry with equal distances"
    for name, make in ways.items():
        again = make()
        _require(again == geometry and hash(again) == hash(geometry), rule, f"{name}: not equal")
        _require(torch.equal(again.distances(), d), rule, f"{name}: other distances")


def _custom(geometry: Geometry) -> dict[str, Any]:
    """The classes and functions of a caller's own in a geometry, by their import paths."""
    kind = type(geometry)
    found: dict[str, Any] = {} if KINDS.get(kind.__name__) is kind else {import_path("geometry", kind): kind}
    for name, value in geometry.arguments().items():
        if isinstance(value, Geometry):
            found |= _custom(value)
        elif callable(value) and not isinstance(value, Tensor):
            found[import_path(name, value)] = value
    return found
