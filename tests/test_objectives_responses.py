"""Objectives of responses against the obvious formulas over all pairs, in values and gradients."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior.objectives import (
    TICA,
    AbsoluteCorrelation,
    Bootphon,
    SpatialCorrelation,
    _nearness,
    absolute_correlation,
    bootphon,
    energy,
    from_config,
    spatial_correlation,
    tica,
    words,
)

Function = Callable[..., Tensor]
PAIRS: dict[str, Function] = {
    "spatial_correlation": spatial_correlation,
    "absolute_correlation": absolute_correlation,
    "bootphon": bootphon,
}
XYZ = torch.randn(11, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
SHEETS = {
    "line": lp.Line(7),
    "ring": lp.Line(8, periodic=True),
    "sheet": lp.Grid(5, 7),
    "one row": lp.Grid(1, 11),
    "torus": lp.Grid(5, 6, periodic=True),
    "cylinder": lp.Grid(4, 7, periodic=(True, False)),
    "block": lp.Grid(3, 2, 4, periodic=(False, True, False)),
    "spaced": lp.Grid(4, 5, spacing=(0.5, 1.25)),
    "not whole": lp.Grid(4, 4, units=13),
    "channels": lp.Grid(3, 4).with_channels(3),
    "not whole channels": lp.Grid(2, 3, units=5).with_channels(2),
    "hexagons": lp.HexGrid(4, 5),
    "sphere": lp.Sphere(17),
    "points": lp.Points(XYZ),
    "points cityblock": lp.Points(XYZ, "cityblock"),
    "channels of points": lp.Points(XYZ[:4]).with_channels(3),
    "graph": lp.Graph(torch.eye(9).roll(1, 0) + torch.eye(9).roll(-1, 0)),
    "two rings": lp.Graph(torch.block_diag(*[torch.eye(5).roll(1, 0) + torch.eye(5).roll(-1, 0)] * 2)),
}
sheets = pytest.mark.parametrize("sheet", SHEETS.values(), ids=SHEETS)
pairwise = pytest.mark.parametrize("name", PAIRS)


# --- references ------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _as_on_large_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nearness, "SMALL", 0)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("sheet", SHEETS.values(), ids=SHEETS)
def test_small_sheets_are_no_exception(sheet: lp.Geometry, pairs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, live = drawn(5, len(sheet)), torch.ones(len(sheet), dtype=torch.float64)
    live[1] = 0
    x[:, 1] = 0
    found = []
    for small in (0, 1 << 18):
        monkeypatch.setattr(_nearness, "SMALL", small)
        near = _nearness._make(sheet, torch.float64, "cpu", pairs and isinstance(_nearness.places(sheet)[0], lp.Grid))
        by_energy = energy._make(_nearness.places(sheet)[0], 1.5, torch.float64, "cpu")
        found.append(near.rows(torch.arange(len(sheet))) if pairs else near.times(x, live))
        assert (by_energy[2] is not None) == (small > 0)
    wanted, quick = found
    if not pairs:  # where nothing responds, nothing is asked for
        wanted[0][:, 1] = quick[0][:, 1] = 0
    assert_close(quick, wanted)


def obvious(name: str, x: Tensor, sheet: lp.Geometry) -> Tensor:
    """By the whole matrices of the units that respond."""
    live = (x.std(0) > 1e-12 if name != "bootphon" else x.norm(dim=0) > 1e-12).nonzero()[:, 0]
    x, d = x[:, live], sheet.distances()[live][:, live]
    if name == "bootphon":
        unit = x / x.norm(dim=0)
        r = unit.T @ unit
    else:
        r = torch.corrcoef(x.T)
    u, v = torch.triu_indices(len(live), len(live), 1)
    r, q = r[u, v], 1 / (1 + d[u, v]).to(x)
    if name == "spatial_correlation":
        return (1 - torch.corrcoef(torch.stack([r, q]))[0, 1]) / 2
    return (r - q).abs().mean() if name == "absolute_correlation" else (r - q).square().mean()


def slow_tica(x: Tensor, sheet: lp.Geometry, radius: float, epsilon: float) -> Tensor:
    near = (sheet.distances() <= radius * sheet.neighbour_distance + 1e-9).to(x)
    return (x.square() @ near + epsilon).sqrt().sum(1).mean()


def drawn(samples: int, units: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(samples, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def both(ours: Tensor, theirs: Tensor, x: Tensor, rtol: float = 1e-9) -> None:
    """Values and gradients of two ways."""
    assert ours.shape == ()
    a, b = torch.autograd.grad(ours, x), torch.autograd.grad(theirs, x)
    assert_close(ours, theirs.to(ours.dtype), rtol=rtol, atol=rtol)
    scale = b[0].abs().max().item()
    assert scale > 0
    assert_close(a[0], b[0], rtol=0, atol=rtol * scale)


# --- all pairs -------------------------------------------------------------------------------------------------------


@sheets
@pairwise
@pytest.mark.parametrize("samples", [6, 40], ids=["few", "many"])
def test_all_pairs(name: str, sheet: lp.Geometry, samples: int) -> None:
    x = (drawn(samples, len(sheet)) + 0.5).requires_grad_()
    both(PAIRS[name](x, sheet), obvious(name, x, sheet), x)


@sheets
@pairwise
def test_units_that_do_not_respond_are_left_out(name: str, sheet: lp.Geometry) -> None:
    x = drawn(9, len(sheet)) + 0.5
    x[:, [0, 2, 5]] = torch.tensor([0.0, 0.0, 0.0] if name == "bootphon" else [0.0, 0.1, -1e5], dtype=torch.float64)
    x.requires_grad_()
    ours = PAIRS[name](x, sheet)
    both(ours, obvious(name, x, sheet), x)
    assert (torch.autograd.grad(PAIRS[name](x, sheet), x)[0][:, [0, 2, 5]] == 0).all()


@pairwise
def test_gradients_by_differences(name: str) -> None:
    for sheet in (lp.Grid(2, 3), lp.Grid(3, 2, periodic=True), lp.Points(XYZ[:6])):
        x = drawn(5, 6, 7).requires_grad_()
        assert torch.autograd.gradcheck(lambda x, sheet=sheet: PAIRS[name](x, sheet), (x,))


@pairwise
@pytest.mark.parametrize("block", [1, 50])
def test_blocks_change_nothing(name: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = drawn(12, 35).requires_grad_()
    wanted = [obvious(name, x, sheet) for sheet in (lp.Grid(5, 7), lp.Points(drawn(35, 2)))]
    monkeypatch.setattr(_nearness, "KEPT", 0)
    monkeypatch.setattr(_nearness, "SPECTRUM", block)
    monkeypatch.setattr(_nearness.slices, "__defaults__", (block,))
    for theirs, sheet in zip(wanted, (lp.Grid(5, 7), lp.Points(drawn(35, 2))), strict=True):
        both(PAIRS[name](x, sheet), theirs, x)
    silent = x.detach().clone()
    silent[:, 3] = 0
    silent.requires_grad_()
    sheet = lp.Points(drawn(35, 2))
    both(PAIRS[name](silent, sheet), obvious(name, silent, sheet), silent)


def test_numbers_by_hand() -> None:
    """r is 1, 0, 0 and q is 1/2, 1/3, 1/2 for the pairs 01, 02, 12."""
    x = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, 1.0], [-1.0, -1.0, -1.0], [1.0, 1.0, -1.0]])
    rho = (1 / 2 - 4 / 9) / math.sqrt((1 - 1 / 3) * (11 / 18 - 16 / 27))
    assert float(spatial_correlation(x, lp.Line(3))) == pytest.approx((1 - rho) / 2, abs=1e-6)
    assert (1 - rho) / 2 == pytest.approx(0.25)
    assert float(absolute_correlation(x, lp.Line(3))) == pytest.approx(4 / 9)
    assert float(bootphon(x, lp.Line(3))) == pytest.approx((1 / 4 + 1 / 9 + 1 / 4) / 3)
    # on a ring all are 1 apart: nothing to correlate with
    assert float(spatial_correlation(x, lp.Line(3, periodic=True))) == 0
    assert float(absolute_correlation(x, lp.Line(3, periodic=True))) == pytest.approx(1 / 2)
    assert float(tica(torch.tensor([[3.0, 4.0, 0.0, 0.0]]), lp.Line(4))) == pytest.approx(14, abs=2e-3)
    assert float(tica(torch.zeros(3, 4), lp.Line(4), epsilon=0.25)) == pytest.approx(2)


@pairwise
def test_float32_is_accurate(name: str) -> None:
    sheet = lp.Grid(24, 17)
    x = drawn(64, len(sheet)).relu()
    exact = obvious(name, x, sheet)
    narrow = x.float().requires_grad_()
    value = PAIRS[name](narrow, sheet)
    assert value.dtype == torch.float32
    assert float(value.detach()) == pytest.approx(float(exact), rel=1e-6)
    both(value, obvious(name, narrow, sheet), narrow, rtol=2e-5)


# --- what is undefined -----------------------------------------------------------------------------------------------


@pairwise
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("live", [0, 1, 2])
def test_where_nothing_is_left_it_is_zero(name: str, live: int, dtype: torch.dtype) -> None:
    x = torch.zeros(6, 12, dtype=dtype)
    x[:, :live] = drawn(6, live, dtype=dtype)
    x.requires_grad_()
    for sheet in (lp.Grid(3, 4), lp.HexGrid(3, 4)):
        value = PAIRS[name](x, sheet)
        (grad,) = torch.autograd.grad(value, x)
        assert grad.isfinite().all()
        if live < 2 or name == "spatial_correlation":
            assert value == 0
            assert (grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_correlations_throughout(dtype: torch.dtype) -> None:
    x = drawn(8, 1, dtype=dtype).expand(8, 12).clone() * torch.arange(1, 13).to(dtype) + 3
    x.requires_grad_()
    value = spatial_correlation(x, lp.Grid(3, 4))
    assert value == 0
    assert (torch.autograd.grad(value, x)[0] == 0).all()


def test_two_samples() -> None:
    x = drawn(2, 12).requires_grad_()
    for name, function in PAIRS.items():
        value = function(x, lp.Grid(3, 4))
        assert_close(value, obvious(name, x, lp.Grid(3, 4)))
        assert torch.autograd.grad(value, x)[0].isfinite().all()


# --- neighbourhoods --------------------------------------------------------------------------------------------------

SAMPLED = {"spatial_correlation": spatial_correlation, "absolute_correlation": absolute_correlation}


@pytest.mark.parametrize("name", SAMPLED)
@sheets
def test_a_neighbourhood_of_all_is_all_pairs(name: str, sheet: lp.Geometry) -> None:
    x = drawn(9, len(sheet)).requires_grad_()
    both(SAMPLED[name](x, sheet, neighbourhoods=2), obvious(name, x, sheet), x)
    if sheet.distances().isfinite().all():
        both(SAMPLED[name](x, sheet, neighbourhoods=1, radius=1e9), obvious(name, x, sheet), x)


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize("sheet", [lp.Grid(9, 8), lp.Grid(4, 5).with_channels(3), lp.Points(drawn(50, 2))], ids=repr)
def test_neighbourhoods(name: str, sheet: lp.Geometry) -> None:
    x = drawn(9, len(sheet)).requires_grad_()
    d = sheet.distances()
    torch.manual_seed(4)
    value = SAMPLED[name](x, sheet, neighbourhoods=3, units=10)
    torch.manual_seed(4)
    assert torch.equal(SAMPLED[name](x, sheet, neighbourhoods=3, units=10), value)
    torch.manual_seed(4)
    means = []
    for _ in range(3):
        chosen = d[torch.randint(len(sheet), ())].argsort(stable=True)[:10]
        means.append(obvious(name, x[:, chosen], lp.Distances(d[chosen][:, chosen])))
    both(value, torch.stack(means).mean(), x)


def test_neighbourhoods_within_a_radius() -> None:
    sheet = lp.Grid(9, 8)
    torch.manual_seed(0)
    for _ in range(5):
        chosen, near = _nearness.neighbourhood(sheet, 12, 2.0, torch.zeros(1))
        assert len(chosen.unique()) == len(chosen) <= 12
        assert_close(near.q, (1 / (1 + sheet.distances()[chosen][:, chosen])).float())
        assert sheet.distances()[chosen][:, chosen].max() <= 4
    sizes = {len(_nearness.neighbourhood(sheet, 500, 2.0, torch.zeros(1))[0]) for _ in range(40)}
    assert max(sizes) == 13  # the whole disc, and fewer at the borders
    assert min(sizes) >= 6


def test_silent_neighbourhoods_are_dropped() -> None:
    sheet = lp.Line(40)
    x = drawn(9, 40)
    x[:, :20] = 1
    x.requires_grad_()
    torch.manual_seed(0)
    value = spatial_correlation(x, sheet, neighbourhoods=20, units=5)
    torch.manual_seed(0)
    kept = []
    for _ in range(20):
        chosen = sheet.distances()[torch.randint(40, ())].argsort(stable=True)[:5]
        if (chosen >= 20).sum() >= 3:
            part = lp.Points(sheet.positions[chosen])
            kept.append(obvious("spatial_correlation", x[:, chosen], part))
    assert 0 < len(kept) < 20
    both(value, torch.stack(kept).mean(), x)
    silent = torch.ones(9, 40, requires_grad=True)
    nothing = spatial_correlation(silent, sheet, neighbourhoods=3)
    assert nothing == 0
    assert (torch.autograd.grad(nothing, silent)[0] == 0).all()


# --- TICA ------------------------------------------------------------------------------------------------------------


@sheets
@pytest.mark.parametrize("radius", [0.5, 1.5, 2.3])
def test_tica(sheet: lp.Geometry, radius: float) -> None:
    x = drawn(4, len(sheet)).requires_grad_()
    both(tica(x, sheet, radius=radius, epsilon=0.01), slow_tica(x, sheet, radius, 0.01), x)


def test_tica_far_beyond_the_sheet() -> None:
    for sheet in (lp.Grid(3, 4), lp.Grid(3, 4, periodic=True), lp.Grid(2, 2, 2, 2)):
        x = drawn(4, len(sheet)).requires_grad_()
        both(tica(x, sheet, radius=9), slow_tica(x, sheet, 9, 1e-6), x)


def test_tica_by_differences() -> None:
    x = drawn(3, 12).requires_grad_()
    for sheet in (lp.Grid(3, 4), lp.Grid(3, 4, periodic=True), lp.HexGrid(3, 4)):
        assert torch.autograd.gradcheck(lambda x, sheet=sheet: tica(x, sheet, epsilon=0.1), (x,))
    zero = torch.zeros(3, 12, requires_grad=True)
    assert (torch.autograd.grad(tica(zero, lp.Grid(3, 4)), zero)[0] == 0).all()


# --- precision, devices, compilers -----------------------------------------------------------------------------------

ALL: dict[str, Function] = {**PAIRS, "tica": tica}
every = pytest.mark.parametrize("name", ALL)


@every
def test_half_precision_is_brought_to_float32(name: str) -> None:
    sheet = lp.Grid(4, 5)
    for dtype in (torch.bfloat16, torch.float16):
        x = drawn(16, 20, dtype=dtype).requires_grad_()
        value = ALL[name](x, sheet)
        assert value.dtype == torch.float32
        assert_close(value, ALL[name](x.float(), sheet))
        assert torch.autograd.grad(value, x)[0].dtype == dtype
    x = drawn(16, 20, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ALL[name](x, sheet)
    assert torch.equal(inside, ALL[name](x, sheet))


@every
@pytest.mark.parametrize("sheet", [lp.Grid(4, 5), lp.HexGrid(4, 5)], ids=repr)
def test_compiled_whole(name: str, sheet: lp.Geometry) -> None:
    torch._dynamo.reset()
    x = drawn(7, 20, dtype=torch.float32).requires_grad_()
    backend = "aot_eager" if isinstance(sheet, lp.Grid) else "eager"
    compiled = torch.compile(lambda x: ALL[name](x, sheet), backend=backend, fullgraph=True)
    both(compiled(x), ALL[name](x, sheet), x, rtol=1e-5)


@every
def test_a_step_waits_for_nothing(name: str) -> None:
    """On the meta device no value can be brought to Python."""
    for sheet in (lp.Grid(4, 5), lp.Grid(4, 5, periodic=True), lp.HexGrid(4, 5)):
        x = torch.empty(7, 20, device="meta", requires_grad=True)
        value = ALL[name](x, sheet)
        value.backward()
        assert x.grad is not None
        assert x.grad.shape == x.shape


@every
def test_inference_mode_first(name: str) -> None:
    sheet = lp.Grid(4, 5)
    x = drawn(7, 20)
    with torch.inference_mode():
        before = ALL[name](x, sheet).item()
    x.requires_grad_()
    value = ALL[name](x, sheet)
    value.backward()
    assert value.item() == pytest.approx(before)


@pairwise
def test_functional_gradients(name: str) -> None:
    sheet, x = lp.Grid(4, 5), drawn(7, 20).requires_grad_()
    (grad,) = torch.autograd.grad(PAIRS[name](x, sheet), x)
    assert_close(torch.func.grad(lambda x: PAIRS[name](x, sheet))(x.detach()), grad)


def test_what_is_kept_goes_with_its_geometry() -> None:
    gc.collect()
    before = len(_nearness._KEPT.made)
    kept = [lp.Grid(6, 13), lp.HexGrid(3, 7)]
    for sheet in kept:
        for name in ("spatial_correlation", "bootphon"):
            PAIRS[name](drawn(5, len(sheet)), sheet)
    assert len(_nearness._KEPT.made) == before + 2
    again = lp.Grid(6, 13)
    assert spatial_correlation(drawn(5, 78), again) > 0
    assert len(_nearness._KEPT.made) == before + 2  # an equal geometry needs nothing new
    del sheet, kept
    gc.collect()
    assert len(_nearness._KEPT.made) == before


# --- bound -----------------------------------------------------------------------------------------------------------

KINDS = (SpatialCorrelation, AbsoluteCorrelation, Bootphon, TICA)
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.WORD)


def sheet_of_units(sheet: lp.Geometry) -> tuple[nn.Module, lp.Placement]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, len(sheet)), nn.Tanh())
    return model, lp.place(model, {"1": sheet})


@kinds
def test_bound_it_is_the_function_of_what_was_seen(kind: Any) -> None:
    model, placed = sheet_of_units(lp.Grid(4, 5))
    objective = kind(placed)
    x = drawn(9, 6, dtype=torch.float32)
    seen = model(x)
    assert_close(objective.value(), ALL[kind.WORD](seen, lp.Grid(4, 5)))


@kinds
def test_training_makes_it_fall(kind: Any) -> None:
    model, placed = sheet_of_units(lp.Grid(4, 5))
    objective = kind(placed, 1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    x, values = drawn(64, 6, dtype=torch.float32), []
    for _ in range(60):
        optimizer.zero_grad()
        model(x)
        value = objective()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < 0.7 * values[0]


def test_strengths_are_the_papers() -> None:
    _, placed = sheet_of_units(lp.Grid(4, 5))
    assert [kind(placed).weight() for kind in KINDS] == [0.25, 0.25, 1.0, 0.001]
    assert SpatialCorrelation(placed).options == {"neighbourhoods": 0, "units": 500, "radius": None}
    assert TICA(placed).options == {"radius": 1.5, "epsilon": 1e-6}


@pytest.mark.parametrize(
    "word",
    ["spatial_correlation:2.5,neighbourhoods=5,radius=4", "absolute_correlation:1,neighbourhoods=20,units=50",
     "bootphon:3", "tica:0.01,radius=2.5,epsilon=0.001", "spatial_correlation:0.25", "tica:0.001,ramp=0.1"],
)  # fmt: skip
def test_words_and_plain_values(word: str) -> None:
    model, placed = sheet_of_units(lp.Grid(4, 5))
    assert words.canonical("objective", word) == word
    (objective,) = words.bind(word, placed, placed)
    again = from_config(json.loads(json.dumps(objective.config())), placed)
    assert again.config() == objective.config()
    objective.remove()
    model(drawn(5, 6, dtype=torch.float32))
    assert again.value().isfinite()


# --- bad input -------------------------------------------------------------------------------------------------------

SHEET = lp.Grid(3, 4)
GOOD = torch.zeros(5, 12)
ONE_WAY = lp.Distances(torch.arange(9.0).reshape(3, 3))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((torch.zeros(5, 11), SHEET), r"responses: got .*, expected \(samples, 12\)"),
        ((torch.zeros(12), SHEET), r"responses: got .*, expected \(samples, 12\)"),
        ((GOOD.long(), SHEET), r"responses: got .*, expected a floating-point tensor"),
        ((GOOD, 12), r"geometry: got 12, expected a geometry"),
    ],
)
def test_bad_responses(name: str, arguments: tuple[Any, Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said) as caught:
        ALL[name](*arguments)
    assert "\n" not in str(caught.value)


@pairwise
def test_bad_pairs(name: str) -> None:
    with pytest.raises(ValueError, match="responses: got 1 sample, expected at least 2"):
        PAIRS[name](GOOD[:1], SHEET)
    with pytest.raises(ValueError, match=r"geometry: got Distances\(3 × 3\), which differ by direction, expected"):
        PAIRS[name](torch.zeros(5, 3), ONE_WAY)
    with pytest.raises(ValueError, match=r"geometry: got Distances\(3 × 2\), expected distances of the units from"):
        PAIRS[name](torch.zeros(5, 3), lp.Distances(torch.ones(3, 2)))


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"neighbourhoods": -1}, "neighbourhoods: got -1, expected a whole number of at least 0"),
        ({"neighbourhoods": 2, "units": 2}, "units: got 2, expected a whole number of at least 3"),
        ({"neighbourhoods": 2, "radius": 0}, "radius: got 0, expected a finite number above 0"),
        ({"radius": 3.0}, "radius: got 3.0, expected None where there are no neighbourhoods"),
    ],
)
def test_bad_options(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SAMPLED[name](GOOD, SHEET, **options)
    model, placed = sheet_of_units(SHEET)
    kind = {kind.WORD: kind for kind in KINDS}[name]
    with pytest.raises(ValueError, match=said):
        kind(placed, **options)
    assert not model._forward_pre_hooks


def test_bad_options_of_tica() -> None:
    _, placed = sheet_of_units(SHEET)
    for options in ({"radius": 0.0}, {"epsilon": 0.0}):
        (option,) = options
        for make in (lambda **options: TICA(placed, **options), lambda **options: tica(GOOD, SHEET, **options)):
            with pytest.raises(ValueError, match=f"{option}: got 0.0, expected a finite number above 0"):
                make(**options)


def test_a_geometry_that_does_not_fit_is_refused_when_bound() -> None:
    model, placed = sheet_of_units(ONE_WAY)
    for kind in KINDS[:3]:
        with pytest.raises(ValueError, match=r"geometry: got .*, which differ by direction"):
            kind(placed)
    assert not model._forward_pre_hooks
