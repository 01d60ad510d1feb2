"""A sheet whose units are in another order gives what the sheet gives for units that were put in that order first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import locality_prior as lp
from locality_prior import analysis
from locality_prior import objectives as ob
from locality_prior.geometry import Geometry, Permuted, near
from locality_prior.testing import check_geometry

SHEETS = [lp.Grid(4, 6), lp.Grid(4, 6, periodic=True), lp.Grid(4, 6, spacing=(0.5, 2)), lp.HexGrid(4, 6)]
sheets = pytest.mark.parametrize("sheet", SHEETS, ids=repr)


def permuted(sheet: Geometry, seed: int = 0) -> Permuted:
    found = sheet.permuted(np.random.default_rng(seed).permutation(len(sheet)))
    assert isinstance(found, Permuted)
    return found


def drawn(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=shape))


def test_orders_are_put_together() -> None:
    sheet, one, other = lp.Grid(3, 4), torch.randperm(12), torch.randperm(12)
    twice = sheet.permuted(one).permuted(other)
    assert twice == sheet.permuted(one[other]) == Permuted(Permuted(sheet, one), other)
    assert torch.equal(twice.positions, sheet.positions[one][other])
    assert sheet.permuted(list(range(12))) is sheet
    assert sheet.permuted(one).permuted(one.argsort()) is sheet
    assert torch.equal(permuted(sheet).units, permuted(sheet).order.argsort())
    for made in (permuted(sheet).with_channels(2), lp.Shuffled(permuted(sheet), seed=1)):
        assert made.distances().shape == (len(made), len(made))


@pytest.mark.parametrize(
    "order",
    [
        [0, 1],
        [0, 1, 1],
        [0, 1, 3],
        [-1, 0, 1],
        [[0, 1, 2]],
        [0.0, 1.0, 2.0],
        torch.tensor([True, False, True]),
        "012",
        None,
        np.ma.masked_array([0, 1, 2], [0, 0, 1]),
    ],
    ids=str,
)
def test_what_is_no_permutation_is_refused(order: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^order: got .*, expected [^\n]*$"):
        lp.Line(3).permuted(order)


def test_an_order_does_not_change_with_the_array_it_was_made_of() -> None:
    array, tensor = np.array([2, 0, 1]), torch.tensor([2, 0, 1])
    lines = lp.Line(3).permuted(array), lp.Line(3).permuted(tensor)
    array += 1
    tensor += 1
    assert [line.positions.flatten().tolist() for line in lines] == [[2, 0, 1]] * 2
    assert lines[0] == lp.Line(3).permuted(np.array([2, 0, 1], dtype=np.uint8)) == lp.Line(3).permuted((2, 0, 1))
    with pytest.raises(ValueError, match=r"permuted: got Distances\(2 × 3\), expected a geometry of one set of units"):
        lp.Distances(torch.ones(2, 3)).permuted([0, 1])


@sheets
def test_near_pairs_come_row_by_row(sheet: Geometry) -> None:
    for target, source in ((permuted(sheet), permuted(sheet, 1)), (sheet, permuted(sheet)), (permuted(sheet), sheet)):
        d = target.distances(source)
        i, j, lengths = (torch.cat(parts) for parts in zip(*near(target, source, 2.0), strict=True))
        assert torch.equal(torch.stack([i, j], 1), (d <= 2 * (1 + 1e-9)).nonzero())
        assert torch.equal(lengths, d[i, j])


def test_of_a_large_sheet_only_what_is_near_is_looked_at() -> None:
    sheet = lp.Grid(300, 300)
    for source in (permuted(sheet), permuted(sheet, 1)):
        assert sum(len(i) for i, _, _ in near(permuted(sheet), source, 1.0)) == 5 * 300 * 300 - 4 * 300


@pytest.mark.parametrize("backend", ["dense", "windowed", "wires"])
def test_a_layer_is_that_of_the_reordered_weights(backend: str) -> None:
    source, target = permuted(lp.Grid(8, 8)), permuted(lp.Grid(6, 6))
    options: dict[str, Any] = {"cost": "linear@3", "dtype": torch.float64, "bias": False}
    plain = lp.LocalityLinear(64, 36, source=source.base, target=target.base, **options)
    layer = lp.LocalityLinear(64, 36, source=source, target=target, backend=backend, **options)
    w, x = drawn(36, 64), drawn(5, 64)
    with torch.no_grad():
        plain.load_state_dict({"weight": w})
        layer.load_state_dict({"weight": w[target.order][:, source.order]})
    assert_close(layer(x), plain(x[:, source.units])[:, target.order])


def test_a_layer_is_saved_with_its_order(tmp_path: Path) -> None:
    layer = lp.LocalityLinear(16, 16, source=permuted(lp.Grid(4, 4)))
    lp.save(layer, tmp_path / "layer.safetensors")
    again = lp.load(tmp_path / "layer.safetensors")
    assert again.source == layer.source
    assert torch.equal(again.effective_weight, layer.effective_weight)
    other = lp.LocalityLinear(16, 16, source=permuted(lp.Grid(4, 4), 1))
    with pytest.raises(ValueError, match="expected"):
        lp.load(tmp_path / "layer.safetensors", other)


# --- what trains and measures a sheet --------------------------------------------------------------------------------

#: Functions of responses (samples, units) and of their geometry, and of weights (units, in) and theirs.
OF_RESPONSES: dict[str, Callable[[Tensor, Geometry], Any]] = {
    "spatial correlation": ob.spatial_correlation,
    "absolute correlation": ob.absolute_correlation,
    "bootphon": ob.bootphon,
    "tica": ob.tica,
    "blur": lambda x, sheet: ob.blur(x, sheet).square().sum(),
    "morans i": lambda x, sheet: analysis.morans_i(x, sheet, permutations=1).i,
    "smoothness of maps": lambda x, sheet: analysis.smoothness(x, sheet).score,
    "response correlation": lambda x, sheet: analysis.response_correlation(x, sheet).score,
    "spatial variance": lambda x, sheet: analysis.spatial_variance(x.abs(), sheet),
    "map similarity": lambda x, sheet: analysis.map_similarity(x, x.flip(0), sheet).score,
}
OF_WEIGHTS: dict[str, Callable[[Tensor, Geometry], Any]] = {
    "topoloss": lambda w, sheet: ob.topoloss(w, sheet, factor=2),
    "topoloss of maps": lambda w, sheet: ob.topoloss(w, sheet, factor=2, cosine="maps"),
    "smoothness": ob.smoothness,
    "smoothness with edges": lambda w, sheet: ob.smoothness(w, sheet, circular=False),
    "similarity": ob.similarity,
    "cbsom": lambda w, sheet: ob.cbsom(w, w.square(), sheet).norm(dim=1).sort().values,
    "bimt": ob.bimt,
    "saturating": ob.saturating,
    "wiring": ob.wiring,
}
GRIDS_ALONE = {"blur", "topoloss", "topoloss of maps"}


@sheets
@pytest.mark.parametrize("name", [*OF_RESPONSES, *OF_WEIGHTS])
def test_what_is_measured_is_that_of_the_reordered_units(name: str, sheet: Geometry) -> None:
    at, values = permuted(sheet), drawn(24, 24)
    if name in GRIDS_ALONE and not isinstance(sheet, lp.Grid):
        with pytest.raises(ValueError, match=r"got Permuted\(HexGrid\(4, 6\)\), expected a whole grid of two axes"):
            {**OF_RESPONSES, **OF_WEIGHTS}[name](values, at)
        return
    if name in OF_RESPONSES:
        found, expected = OF_RESPONSES[name](values, at), OF_RESPONSES[name](values[:, at.units], sheet)
    else:
        moved = values[at.units] if name not in ("bimt", "saturating", "wiring") else values[at.units][:, at.units]
        found, expected = OF_WEIGHTS[name](values, at), OF_WEIGHTS[name](moved, sheet)
    assert_close(torch.as_tensor(found), torch.as_tensor(expected), rtol=1e-6, atol=1e-9, equal_nan=True)
    assert np.isfinite(np.asarray(expected)).all() or (name, sheet) == ("smoothness of maps", SHEETS[1])


def test_responses_on_large_sheets_are_those_of_the_reordered_units() -> None:
    """Above 512 units a grid's nearness is a convolution or a table."""
    for sheet in (lp.Grid(24, 24), lp.Grid(24, 25, units=590), lp.HexGrid(23, 23)):
        at, x = permuted(sheet), drawn(8, len(sheet)).requires_grad_()
        for f in (ob.spatial_correlation, ob.absolute_correlation):
            found, expected = f(x, at), f(x[:, at.units], sheet)
            assert_close(found, expected, rtol=1e-9, atol=1e-12)
            assert_close(*(torch.autograd.grad(y, x)[0] for y in (found, expected)), rtol=1e-7, atol=1e-12)
        torch.manual_seed(0)
        some = ob.spatial_correlation(x, at, neighbourhoods=3, units=20)
        assert some.isfinite()


def test_differences_by_direction_are_seen_through_an_order() -> None:
    check_geometry(permuted(lp.Distances(drawn(4, 4).abs())))
    with pytest.raises(ValueError, match="distances that are equal both ways"):
        ob.spatial_correlation(drawn(5, 4), permuted(lp.Distances(drawn(4, 4).abs())))


def test_masks_and_compiled_objectives() -> None:
    at = permuted(lp.Grid(6, 6, periodic=True))
    mask = ob.topoformer_mask(at.base)
    assert torch.equal(ob.topoformer_mask(at), mask[at.order][:, at.order])
    w = drawn(36, 5)
    for f in (ob.smoothness, ob.similarity):
        assert_close(torch.compile(f, backend="eager", fullgraph=True)(w, at), f(w, at))


def test_units_are_drawn_at_their_places() -> None:
    pytest.importorskip("matplotlib")
    from locality_prior.plots import Places

    for sheet in (*SHEETS, lp.Grid(4, 6, units=20), lp.Line(9), lp.Sphere(9), lp.Points(drawn(9, 3))):
        at = permuted(sheet)
        places, plain = Places.of(at), Places.of(sheet)
        assert places.config() == plain.config()
        assert (places.xy == plain.xy[at.order]).all()
        values = np.arange(float(len(sheet)))
        pictures = [lp.plots.sheet(v, g) for v, g in ((values, at), (values[at.units], sheet))]
        if places.kind == "cells":
            one, other = (ax.images[0].get_array() for ax in pictures)
            assert np.ma.allequal(one, other)
    title = lp.plots.transmitted_signal(np.ones(24), permuted(SHEETS[0]), unit=3).get_title()
    cell = divmod(int(permuted(SHEETS[0]).order[3]), 6)
    assert title == f"unit at row {cell[0]}, column {cell[1]}"
    with pytest.raises(ValueError, match=r"xy: got .*, expected a cell \(column, row\) of its own for each unit"):
        Places([[0, 0], [0, 0]], "cells", (1, 2))
