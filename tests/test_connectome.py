"""Measured wiring as a geometry, against brute force; and the worm's network of studies/, on a made-up worm."""

from __future__ import annotations

import json
import math
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from reference import COSTS
from scipy import sparse
from torch import nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior.runs import door
from locality_prior.runs.network import network
from locality_prior.studies import study_from
from locality_prior.testing import check_geometry

STUDIES = Path(__file__).parent.parent / "studies"
INF = math.inf
N = 9


def wiring(seed: int = 0, rows: int = N, columns: int = N) -> torch.Tensor:
    """Numbers of synapses, most of them 0. Unit 2 receives none, and unit 0 has a wire to itself."""
    draw = torch.Generator().manual_seed(seed)
    found = torch.randint(1, 9, (rows, columns), generator=draw) * (torch.rand(rows, columns, generator=draw) < 0.4)
    found[2] = 0
    found[0, 0] = 3
    return found


def points(n: int = N, seed: int = 1) -> lp.Points:
    return lp.Points(torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


SYNAPSES = wiring()
WORM = lp.Wired(SYNAPSES, points())


# --- the geometry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("name", COSTS)
def test_the_prior_is_the_signal_on_the_wires_and_0_elsewhere(name: str, rescale: bool) -> None:
    cost = COSTS[name][0]
    signal = cost.signal(WORM.distances())
    expected = torch.tensor([[float(signal[i, j]) if SYNAPSES[i, j] else 0.0 for j in range(N)] for i in range(N)])
    if ((SYNAPSES > 0).any(1) & (expected.sum(1) == 0)).any():
        with pytest.raises(ValueError, match="with no wire under"):
            lp.Prior(WORM, WORM, cost, rescale)
        return
    if rescale:
        total = expected.sum(1, keepdim=True)
        expected = torch.where(total > 0, expected * N / total, 0.0)
    rule = lp.Prior(WORM, WORM, cost, rescale)
    wired = expected > 0
    assert_close(rule.dense(), expected.double(), rtol=1e-6, atol=0)
    assert_close(rule.rows(torch.tensor([5, 2])), expected[[5, 2]].double(), rtol=1e-6, atol=0)
    assert_close(rule.signals(torch.float64, torch.device("cpu")), expected[wired].double(), rtol=1e-6, atol=0)
    wires = rule.wires()
    assert torch.equal(torch.stack([wires.rows(), wires.sources]), torch.stack(wired.nonzero(as_tuple=True)))
    d = torch.where(wired, WORM.distances(), 0.0)
    assert_close(rule.lengths(torch.float64, torch.device("cpu")), d)
    assert_close(rule.wire_lengths(torch.float64, torch.device("cpu")), d[wired])
    charges = torch.where(wired, cost.cost(WORM.distances()), 0.0)
    assert_close(rule.charges(cost, torch.float64, torch.device("cpu")), charges)
    assert (rule.flat, rule.complete, rule.bounded) == (False, False, True)
    assert rule.table() is None


def test_the_contract_of_every_geometry() -> None:
    check_geometry(WORM)
    check_geometry(lp.Shuffled(WORM, seed=1))


def test_every_pair_wired_is_the_places_alone() -> None:
    everywhere = lp.Wired(torch.ones(N, N), points())
    rule = lp.Prior(everywhere, everywhere, "linear")
    assert torch.equal(rule.dense(), lp.Prior(points(), points(), "linear").dense())
    assert lp.Prior(everywhere, everywhere, "flat").flat


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cost", ["flat", "linear:2", "gaussian@50"])
def test_backends_agree_and_a_unit_without_wires_gets_its_bias_alone(cost: str, dtype: torch.dtype) -> None:
    given: dict[str, Any] = {"source": WORM, "target": WORM, "cost": cost, "dtype": dtype}
    x, layers = torch.randn(4, N, dtype=dtype), {}
    for backend in ("dense", "wires", "windowed"):
        torch.manual_seed(3)
        layer = layers[backend] = lp.LocalityLinear(N, N, backend=backend, **given)
        inputs = x.clone().requires_grad_()
        y = layer(inputs)
        (y**2).sum().backward()
        assert_close(y[:, 2], layer.bias[2].expand(4))  # type: ignore[index]
        plain = layer.fold()
        assert_close(y, plain(x))
        assert torch.equal(plain.weight != 0, SYNAPSES != 0)
        dense = layers["dense"]
        if backend == "dense":
            first, grad = y.detach(), inputs.grad
            assert grad is not None
            assert (dense.weight.grad[SYNAPSES == 0] == 0).all()  # type: ignore[index]
        else:
            assert layer.weight.shape == (int((SYNAPSES > 0).sum()),)
            assert_close(y, first)
            assert_close(inputs.grad, grad)
            assert_close(layer.weight.grad, dense.weight.grad[SYNAPSES > 0])  # type: ignore[index]
            layer.load_state_dict(dense.state_dict())
            assert_close(layer(x), first)
    assert list(layers["dense"].state_dict()) == ["weight", "bias"]  # nn.Linear's
    layers["wires"].cost = "linear:3"  # without an end, but with the same wires
    layers["dense"].cost = "linear:3"
    assert_close(layers["wires"](x), layers["dense"](x))


@pytest.mark.parametrize("kind", [lp.LocalityRNN, lp.LocalityGRU, lp.LocalityLSTM])
def test_a_recurrent_network_has_the_wires_and_keeps_them(kind: Any) -> None:
    layer = kind(4, N, units=WORM, cost="linear:2")
    plain = layer.fold()
    x = torch.randn(6, 3, 4)
    assert_close(layer(x)[0], plain(x)[0])
    optimizer = torch.optim.Adam(layer.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        layer(x)[0].square().mean().backward()
        optimizer.step()
    weight = layer.fold().weight_hh_l0.reshape(-1, N, N)
    assert torch.equal(weight != 0, (SYNAPSES != 0).expand_as(weight))


def test_the_elman_equation_on_wires() -> None:
    layer = lp.LocalityRNN(2, N, units=WORM, cost="linear:2", dtype=torch.float64)
    x, h = torch.randn(5, 2, dtype=torch.float64), torch.zeros(N, dtype=torch.float64)
    p, got = lp.Prior(WORM, WORM, "linear:2").dense(), layer(x)[0]
    for t in range(5):
        inward = layer.weight_ih_l0 @ x[t] + layer.bias_ih_l0 + layer.bias_hh_l0
        h = torch.tanh(inward + torch.stack([(p[i] * layer.weight_hh_l0[i] * h).sum() for i in range(N)]))
        assert_close(got[t], h)


def test_channels_and_features_of_attention_can_have_wires() -> None:
    conv = lp.LocalityConv2d(N, N, 3, source=WORM, target=WORM, cost="linear:2")
    assert torch.equal(conv.fold().weight != 0, (SYNAPSES != 0)[:, :, None, None].expand(N, N, 3, 3))
    x = torch.randn(2, N, 5, 5)
    assert_close(conv(x), conv.fold()(x))
    assert_close(conv(x)[:, 2], conv.bias[2].expand(2, 3, 3))
    attention = lp.LocalityMultiheadAttention(N, 3, units=WORM, cost="flat", batch_first=True)
    x = torch.randn(2, 4, N)
    assert_close(attention(x, x, x)[0], attention.fold()(x, x, x)[0])
    assert torch.equal(attention.fold().in_proj_weight != 0, (SYNAPSES != 0).repeat(3, 1))


def test_numbers_are_wires_and_not_weights() -> None:
    signed = torch.where(torch.arange(N) % 2 == 0, -1.5, 2.0) * (SYNAPSES > 0)
    for same in (SYNAPSES > 0, SYNAPSES.numpy(), SYNAPSES.tolist(), signed, sparse.coo_matrix(SYNAPSES.numpy())):
        assert lp.Wired(same, points()) == WORM
    twice = sparse.coo_matrix(([1, 2, 5, -5], ([1, 1, 3, 3], [0, 0, 4, 4])), shape=(N, N))  # 1 → 0 twice; a sum of 0
    alone = lp.Wired(twice, points())
    assert torch.equal(lp.Prior(alone, alone, "flat").dense().nonzero(), torch.tensor([[1, 0]]))
    assert lp.Wired(SYNAPSES.T, points()) != WORM
    assert lp.Distances(WORM.distances()) != WORM


def test_entries_of_a_sparse_matrix_that_are_given_twice_are_one_wire() -> None:
    twice = sparse.csr_array((np.array([1.0, 1, 2, 1, -1]), np.array([1, 1, 0, 2, 2]), np.array([0, 2, 3, 5])))
    once = lp.Wired([[0, 1, 0], [1, 0, 0], [0, 0, 0]], points(3))
    assert lp.Wired(twice, points(3)) == once
    assert twice.nnz == 5  # the caller's is as it was


def test_two_populations_and_measured_lengths() -> None:
    synapses, down, up = wiring(5, 4, N), points(4, 2), points(N, 3)
    between = lp.Wired(synapses, down, up)
    layer = lp.LocalityLinear(N, 4, source=between, target=between, cost="linear")
    expected = torch.where(synapses > 0, 1 / (1 + down.distances(up)), 0.0)
    assert_close(layer.prior, expected.float())
    assert repr(between) == f"Wired({int((synapses > 0).sum())} wires of Points(9 × 3) → Points(4 × 3))"
    tracts = lp.Distances([[0.0, INF, 2.0], [1.0, 0.0, 4.0], [INF, 3.0, 0.0]])
    some = lp.Wired([[0, 0, 1], [1, 0, 0], [0, 1, 0]], tracts)
    assert_close(lp.Prior(some, some, "linear").dense()[0], torch.tensor([0, 0, 1 / 3], dtype=torch.float64))


def test_lengths_are_those_of_the_places_and_measures_see_them() -> None:
    assert torch.equal(WORM.distances(), points().distances())
    assert torch.equal(WORM.positions, points().positions)
    layer = lp.LocalityLinear(N, N, source=WORM, target=WORM, cost="linear:2")
    v, d = layer.effective_weight.abs().double(), WORM.distances()
    assert_close(lp.mean_wire_length(layer).double(), (v * d).sum() / v.sum(), rtol=1e-5, atol=0)
    # a dense network can be measured, and charged, on the same geometry
    dense = nn.Sequential(nn.Linear(N, N))
    placed = lp.place(dense, {"0": (WORM, WORM)})
    assert torch.isfinite(lp.objectives.Wiring(placed)())


def test_the_shuffled_null_deals_out_wires_with_their_lengths() -> None:
    null = lp.Shuffled(WORM, seed=4)
    own, other = (lp.Prior(g, g, "linear").dense() for g in (WORM, null))
    assert_close(own.sort(1).values, other.sort(1).values, rtol=0, atol=0)
    assert not torch.equal(own > 0, other > 0)
    assert_close(other[other > 0], 1 / (1 + null.distances()[other > 0]))
    again = pickle.loads(pickle.dumps(null))
    assert torch.equal(lp.Prior(again, again, "linear").dense(), other)


def test_saving_and_pruning(tmp_path: Path) -> None:
    for config, tensors in ((WORM.config(), {}), lp.geometry.to_config(WORM)):
        again = lp.geometry.from_config(json.loads(json.dumps(config, allow_nan=False)), tensors)
        assert again == WORM
        assert hash(again) == hash(WORM)
        assert torch.equal(lp.Prior(again, again, "flat").dense(), lp.Prior(WORM, WORM, "flat").dense())
    model = nn.Sequential(lp.LocalityLinear(N, N, source=WORM, target=WORM, cost="linear:2", backend="wires"))
    x = torch.randn(3, N)
    lp.save(model, tmp_path / "worm.safetensors")
    other = nn.Sequential(lp.LocalityLinear(N, N, source=WORM, target=WORM, cost="linear:2", backend="dense"))
    assert_close(lp.load(tmp_path / "worm.safetensors", other)(x), model(x))
    moved = lp.Wired(SYNAPSES.T, points())
    other = nn.Sequential(lp.LocalityLinear(N, N, source=moved, target=moved, cost="linear:2"))
    with pytest.raises(ValueError, match="source"):
        lp.load(tmp_path / "worm.safetensors", other)
    cut = lp.sparsify(model, keep=0.5)
    weight = cut.model[0].fold().weight
    assert not weight[SYNAPSES == 0].any()
    assert 0 < int((weight != 0).sum()) <= math.ceil(int((SYNAPSES > 0).sum()) / 2)
    with pytest.raises(ValueError, match="kept: got 1 pairs that have no wire"):
        lp.Prior(WORM, WORM, "flat", kept=torch.tensor([int((SYNAPSES == 0).flatten().nonzero()[0])]))


def test_a_cost_may_cut_wires_but_not_a_units_last() -> None:
    near = lp.Points([[0.0], [1.0], [3.0]])
    chain = lp.Wired([[0, 0, 0], [1, 0, 0], [1, 1, 0]], near)
    cut = lp.Prior(chain, chain, "linear@2.5")
    assert torch.equal(cut.dense().nonzero(), torch.tensor([[1, 0], [2, 1]]))
    for radius in (1.5, 0.5):
        with pytest.raises(ValueError, match=r"target: got unit \d of Wired\(3 wires.* with no wire under"):
            lp.Prior(chain, chain, f"linear@{radius}")
    layer = lp.LocalityLinear(3, 3, source=chain, target=chain, cost="flat", backend="wires")
    with pytest.raises(ValueError, match="which has other wires"):
        layer.cost = "linear@2.5"


TURNED = WORM.permuted(torch.arange(N).flip(0))
ERRORS: list[tuple[Callable[[], object], str]] = [
    (lambda: lp.Wired([[1, 1]], points()), r"wires: got shape \(1, 2\), expected shape \(out, in\) = \(9, 9\)"),
    (lambda: lp.Wired(sparse.eye(4), points()), r"wires: got shape \(4, 4\), expected shape"),
    (lambda: lp.Wired(torch.zeros(N, N), points()), "wires: got only zeros, expected at least one wire"),
    (lambda: lp.Wired(torch.full((N, N), INF), points()), "wires: got a number that is NaN or infinite"),
    (lambda: lp.Wired(sparse.csr_array([[math.nan]]), points(1)), "wires: got a number that is NaN or infinite"),
    (lambda: lp.Wired([[1]], lp.Distances([[INF]])), r"wires: got a wire at \(0, 0\), where the distance is inf"),
    (lambda: lp.Wired([[1]], lp.Points([[0.0]]), lp.Points([[0.0, 0.0]])), "target: got .* which cannot meet"),
    (lambda: lp.LocalityLinear(4, 4, source=WORM, target=WORM), "source: got .*expected lengths of shape"),
    (lambda: lp.LocalityRNN(4, 4, units=WORM), "units: got .* of 9 units, expected 4 units"),
    (lambda: lp.LocalityRNN(4, 3, units=lp.Distances(torch.ones(3, 4))), "units: got Distances.* from each other"),
    (lambda: lp.LocalityMultiheadAttention(4, 2, positions=WORM), "positions: got .* expected places alone"),
    (
        lambda: lp.LocalityMultiheadAttention(4, 2, positions=TURNED),
        "expected places alone",
    ),
    (
        lambda: TURNED.with_channels(2),
        "with_channels: got Permuted.* a geometry of places",
    ),
    (lambda: lp.Prior(WORM, points(), "flat"), "which cannot meet"),
    (
        lambda: lp.geometry.from_config(WORM.config() | {"wires": {"tensor": [5, 3]}}),
        "wires: got numbers from 3 to 5, expected increasing numbers",
    ),
    (lambda: lp.geometry.from_config(WORM.config() | {"wires": {"tensor": [99]}}), "wires: got numbers from 99 to 99"),
    (lambda: lp.geometry.from_config(WORM.config() | {"wires": {"tensor": [0.5]}}), "wires: got .* int64"),
]


@pytest.mark.parametrize(("make", "words"), ERRORS)
def test_what_does_not_fit_is_said_in_one_line(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_default_device_or_dtype_makes_no_difference() -> None:
    places = points()
    with torch.device("meta"):
        made = lp.Wired(SYNAPSES, places)
        null = lp.Shuffled(made, seed=1)
    assert made == WORM
    assert null == lp.Shuffled(WORM, seed=1)
    torch.set_default_dtype(torch.float16)
    try:
        assert lp.Wired(SYNAPSES.tolist(), places) == WORM
    finally:
        torch.set_default_dtype(torch.float32)


# --- the worm of studies/connectome.py -------------------------------------------------------------------------------

#: A made-up worm: its cells in the wiring's order, with their types; the muscle is no neuron.
CELLS = {f"S{k}": "Amphid" for k in range(4)} | {f"I{k}": "Layer 1 interneuron" for k in range(6)}
CELLS |= {"M0": "Head motor neuron", "M1": "Pharyngeal motor neuron; odd", "MUS": "Body wall muscle"}


@pytest.fixture(scope="module")
def study() -> Any:
    return door._file("model", str(STUDIES / "connectome.py"))  # as the study itself does


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two wheels in the layout of cect's and c302's, with a worm that was drawn at random."""
    folder = tmp_path_factory.mktemp("worm")
    draw = np.random.default_rng(0)
    order = list(draw.permutation(list(CELLS)))
    chemical = draw.integers(1, 30, (13, 13)) * (draw.random((13, 13)) < 0.3)
    gaps = np.triu(draw.integers(1, 9, (13, 13)) * (draw.random((13, 13)) < 0.1))
    wiring = {"Generic_CS": chemical.tolist(), "Generic_GJ": (gaps + gaps.T).tolist()}
    types = "Cell name,Type,Name details\n" + "".join(f'{name},"{kind}",x\n' for name, kind in CELLS.items())
    with zipfile.ZipFile(folder / "cect-0.0.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("cect/cache/Cook2019HermReader.json", json.dumps({"nodes": order, "connections": wiring}))
        wheel.writestr("cect/data/all_cell_info.csv", types)
    point = '<proximal x="{}" y="{}" z="{}" diameter="2"/>'
    cell = '<neuroml xmlns="http://www.neuroml.org/schema/neuroml2"><cell><morphology><segment id="0">{}</segment>'
    with zipfile.ZipFile(folder / "c302-0.0.1-py3-none-any.whl", "w") as wheel:
        for k, name in enumerate(CELLS):
            text = cell.format(point.format(10 * k, -5.0, 0.5 * k)) + "</morphology></cell></neuroml>"
            wheel.writestr(f"c302/NeuroML2/{name}.cell.nml", text)
        wheel.writestr("c302/NeuroML2/LeakConductance.channel.nml", "<neuroml/>")
    return folder


def test_the_worm_is_read_from_wheels_folders_and_installed_packages(
    study: Any, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = study.worm(str(wheels))
    assert found.names == tuple(sorted(set(CELLS) - {"MUS"}))
    assert [found.names[k] for k in found.sensory] == ["S0", "S1", "S2", "S3"]
    assert [found.names[k] for k in found.motor] == ["M0", "M1"]
    k = list(CELLS).index("S2")
    assert_close(found.positions[found.names.index("S2")] * 10, np.array([10 * k, -5.0, 0.5 * k]))
    assert_close(found.electrical, found.electrical.T)
    with zipfile.ZipFile(wheels / "cect-0.0.1-py3-none-any.whl") as wheel:
        told = json.loads(wheel.read("cect/cache/Cook2019HermReader.json"))
    for one in found.names:  # cect has the sending neuron in the rows, the library in the columns
        for other in found.names:
            sent = told["connections"]["Generic_CS"][told["nodes"].index(one)][told["nodes"].index(other)]
            assert found.chemical[found.names.index(other), found.names.index(one)] == sent
    for name in ("cect", "c302"):
        zipfile.ZipFile(wheels / f"{name}-0.0.1-py3-none-any.whl").extractall(tmp_path)
    assert (study.worm(str(tmp_path)).wires == found.wires).all()
    study.worm.cache_clear()
    monkeypatch.delenv(study.VARIABLE, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert (study.worm().chemical == found.chemical).all()
    assert not {"cect", "c302"} & set(sys.modules)  # found, and not imported
    study.worm.cache_clear()
    with pytest.raises(ValueError, match=r"cect: got none in .*, expected its wheel: pip download"):
        study.worm(str(tmp_path / "empty"))


def test_null_wirings_keep_what_they_say(study: Any) -> None:
    draw = np.random.default_rng(3)
    wires, d = draw.random((40, 40)) < 0.15, np.abs(np.subtract.outer(np.arange(40), np.arange(40))) * 1.0
    made = study.exchanged(wires, 5)
    assert (made.sum(0) == wires.sum(0)).all()
    assert (made.sum(1) == wires.sum(1)).all()
    drawn = study.as_long(wires, d, 5, bins=6)
    edges = np.quantile(d[~np.eye(40, dtype=bool)], np.linspace(0, 1, 7))
    counts = [np.histogram(d[w & ~np.eye(40, dtype=bool)], edges)[0] for w in (wires, drawn)]
    assert counts[0].sum() == counts[1].sum()
    assert np.abs(d[wires].mean() - d[drawn].mean()) < 0.1 * d[wires].mean()
    for null, again, other in (
        (made, study.exchanged(wires, 5), study.exchanged(wires, 6)),
        (drawn, study.as_long(wires, d, 5, bins=6), study.as_long(wires, d, 6, bins=6)),
    ):
        assert (null.diagonal() == wires.diagonal()).all()
        assert (null == again).all()
        assert (null != other).any()
        chance = (wires & null).sum() / wires.sum()
        assert chance < 0.5


def test_the_networks_of_the_study(study: Any, wheels: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(STUDIES.parent)
    monkeypatch.setenv(study.VARIABLE, str(wheels))
    monkeypatch.setenv("LOCALITY_PRIOR_DATA", root)
    study.worm.cache_clear()
    found, task = study.worm(), study.rows(root)
    runs = study_from(yaml.safe_load((STUDIES / "connectome.yaml").read_text("utf-8"))).runs()
    nets = {name: network(run, task) for (name, seed), run in runs.items() if seed == 1}
    assert list(nets) == ["control", "flat@100", "flat@100 shuffled", "control, rewired", "control, nearby"]
    images = torch.randn(3, 1, 28, 28)
    first = nets["control"].layers[0].strength(nets["control"].model)
    assert (first > 0).all()
    seen = {}
    for name, net in nets.items():
        assert net.model(images).shape == (3, 10)
        v = net.layers[0].strength(net.model)
        seen[name] = v > 0
        assert_close(v[v > 0], first[v > 0])  # the same W, on its own wires
        if name != "control":
            assert int((v > 0).sum()) == int(found.wires.sum())
    assert (seen["flat@100"].numpy() == found.wires).all()
    assert torch.equal(seen["flat@100 shuffled"].sum(1), seen["flat@100"].sum(1))
    for axis in (0, 1):
        assert torch.equal(seen["control, rewired"].sum(axis), seen["flat@100"].sum(axis))
    nets["flat@100"].model(images).sum().backward()
    assert (nets["flat@100"].model.sense.weight.grad != 0).any()
    study.worm.cache_clear()


def test_the_real_worm(study: Any) -> None:
    study.worm.cache_clear()
    try:
        found = study.worm()
    except ValueError as error:
        pytest.skip(f"the worm's wheels are not here ({error})")
    assert len(found.names) == 302
    assert (len(found.sensory), len(found.motor)) == (83, 123)
    assert int((found.chemical > 0).sum()) == 3709
    assert int((np.triu(found.electrical, 1) > 0).sum()) == 1091
    assert (found.electrical == found.electrical.T).all()
    assert found.wires.any(1).all()
    # a body of nearly a millimetre, with a third of the neurons in its first seventh
    assert 60 < np.ptp(found.positions, axis=0).max() < 100
