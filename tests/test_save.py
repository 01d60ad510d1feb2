"""Files: what is written comes back, and what does not fit leaves the model as it was."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import homemade
import pytest
import reference
import torch
from reference import COSTS, GEOMETRIES, Meeting
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior.cost import Cost

#: The functions of costs and metrics in the tables of ``reference.py``.
FUNCTIONS = {
    "reference:parabola": reference.parabola,
    "reference:taxi": reference.taxi,
    "homemade:Cylinder": homemade.Cylinder,
    "homemade:Logarithmic": homemade.Logarithmic,
}


def small(source: lp.Geometry | None = None, cost: Cost | str = "linear", **options: Any) -> lp.LocalityLinear:
    return lp.LocalityLinear(6, 4, source=source, cost=cost, **options)


def said(config: dict[str, Any]) -> dict[str, Any]:
    """What a file says of one layer: its geometries in a list, where the layer has their numbers."""
    sheets = [config[name] for name in ("source", "target")]
    return {"geometries": sheets, "layers": {"": config | {"source": 0, "target": 1}}}


def equal(a: nn.Module, b: nn.Module) -> None:
    assert_close(dict(a.state_dict()), dict(b.state_dict()), rtol=0, atol=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("meeting", "cost"),
    [(meeting, lp.cost.Linear()) for meeting in GEOMETRIES.values()]
    + [(GEOMETRIES["sheet"], cost) for cost, _ in COSTS.values()],
    ids=[*GEOMETRIES, *COSTS],
)
def test_a_lone_layer_is_made_anew(meeting: Meeting, cost: Cost, path: Path) -> None:
    layer = meeting.layer(cost, rescale=True, bias=cost != lp.cost.Linear(), dtype=torch.float64)
    lp.save(layer, path)
    before = torch.get_rng_state()
    again = lp.load(path, custom=FUNCTIONS)
    assert torch.equal(torch.get_rng_state(), before)
    assert type(again) is lp.LocalityLinear
    assert again.config() == layer.config()
    assert (again.source, again.target, again.cost) == (layer.source, layer.target, layer.cost)
    assert torch.equal(again.prior, layer.prior)
    assert again.weight.dtype == torch.float64
    equal(again, layer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_is_loaded_into(dtype: torch.dtype, path: Path) -> None:
    def model() -> nn.Sequential:
        return nn.Sequential(small(), nn.BatchNorm1d(4), lp.LocalityLinear(4, 2, cost=lp.cost.Flat())).to(dtype)

    saved, other = model(), model()
    lp.save(saved, str(path))
    assert lp.load(path, other) is other
    equal(saved, other)
    assert os.listdir(path.parent) == [path.name]


def test_a_saved_layer_can_be_read_as_safetensors(path: Path) -> None:
    layer = small()
    lp.save(layer, path)
    with safe_open(path, "pt") as file:
        assert sorted(file.keys()) == ["bias", "weight"]
        assert json.loads(file.metadata()["locality-prior/1"]) == said(layer.config())


def test_tied_layers(path: Path) -> None:
    def model() -> nn.Sequential:
        shared = lp.LocalityLinear(4, 4)
        return nn.Sequential(shared, nn.ReLU(), shared)

    saved, other = model(), model()
    lp.save(saved, path)
    lp.load(path, other)
    equal(saved, other)


# --- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            lambda: small(lp.Line(6), target=lp.Line(4)),
            "(source|target) = .*'shape': .[64].*, expected .*'shape': .2, [23]",
        ),
        (lambda: small(lp.Grid(3, 2)), "source = .*3, 2"),
        (lambda: small(cost=lp.cost.Linear(2)), "cost = .*2.0.*, expected .*1.0.*, as in the file"),
        (lambda: small(cost=lp.cost.Linear().within(2)), "cost = .*radius"),
        (lambda: small(cost=lp.cost.Flat()), "cost = .*Flat"),
        (lambda: small(rescale=True), "rescale = True, expected False"),
        (lambda: small(bias=False), "bias = False, expected True"),
        (lambda: lp.LocalityLinear(6, 5), "(target|out_features) = "),
        (lambda: nn.Sequential(small()), r"locality layers \['0'\], expected \[''\]"),
        (lambda: nn.Linear(6, 4), r"locality layers \[\], expected \[''\]"),
    ],
)
def test_another_model_is_refused_and_left_alone(other: Callable[[], nn.Module], words: str, path: Path) -> None:
    lp.save(small(), path)
    model = other()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"model: got .*{words}") as caught:
        lp.load(path, model)
    assert "\n" not in str(caught.value)
    assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: nn.Sequential(small(), nn.Linear(4, 3)), r"1.bias of shape \(3,\), expected \(2,\), as in"),
        (lambda: nn.Sequential(small(), nn.Linear(4, 2, False)), "differing in 1.bias, expected the parameters"),
        (lambda: nn.Sequential(small(), nn.Linear(4, 2), nn.PReLU()), "differing in 2.weight"),
    ],
)
def test_another_rest_is_refused_and_left_alone(other: Callable[[], nn.Module], words: str, path: Path) -> None:
    lp.save(nn.Sequential(small(), nn.Linear(4, 2)), path)
    model = other()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"model: got .*{words}"):
        lp.load(path, model)
    assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


def test_a_model_needs_a_model_to_load_into(path: Path) -> None:
    lp.save(nn.Sequential(small()), path)
    with pytest.raises(ValueError, match=r"model: got None, expected the model to load into: .* holds 0"):
        lp.load(path)


def test_nothing_to_save(path: Path) -> None:
    with pytest.raises(ValueError, match="module: got Linear, expected a model with a locality layer"):
        lp.save(nn.Linear(3, 3), path)
    assert not path.exists()


# --- broken files ----------------------------------------------------------------------------------------------------

LAYERS = json.dumps(said(small().config()))
TENSORS = {"weight": torch.zeros(4, 6), "bias": torch.zeros(4)}


def test_the_same_layer_gives_the_same_bytes(tmp_path: Path) -> None:
    layer = lp.LocalityLinear(9, 9)
    for k in range(20):
        lp.save(layer, tmp_path / f"{k}.safetensors")
    assert len({p.read_bytes() for p in tmp_path.iterdir()}) == 1


def written(metadata: dict[str, str], tensors: dict[str, Tensor] = TENSORS) -> Callable[[Path], None]:
    return lambda path: save_file(tensors, path, metadata)


def truncated(path: Path) -> None:
    lp.save(small(), path)
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: None, "readable safetensors file"),
        (lambda path: path.mkdir(), "readable safetensors file"),
        (lambda path: path.write_bytes(b""), "readable safetensors file"),
        (lambda path: path.write_bytes(b"weights" * 99), "readable safetensors file"),
        (lambda path: torch.save(small().state_dict(), path), "readable safetensors file"),
        (truncated, "readable safetensors file"),
        (lambda path: save_file(TENSORS, path), "of another format, expected"),
        (written({"format": "pt"}), "of another format, expected"),
        (written({"locality-prior/1": ""}), "expected a description of its layers"),
        (written({"locality-prior/1": "{"}), "expected a description of its layers"),
        (written({"locality-prior/1": "[]"}), "expected a description of its layers"),
        (written({"locality-prior/1": '{"geometries": [], "layers": {}}'}), "expected a description"),
        (written({"locality-prior/1": '{"geometries": [], "layers": {"": {"in_features": 6}}}'}), "expected a descr"),
        (written({"locality-prior/1": '{"geometries": [], "layers": {"": 3}}'}), "expected a description"),
        (written({"locality-prior/1": '{"geometries": 3, "layers": {"": {}}}'}), "expected a description"),
        (written({"locality-prior/1": LAYERS}, {"bias": torch.zeros(4)}), "weight"),
        (written({"locality-prior/1": LAYERS.replace("Grid", "Donut")}), "Donut"),
    ],
)
@pytest.mark.parametrize("into", [False, True])
def test_broken_files_are_refused(write: Callable[[Path], None], words: str, into: bool, path: Path) -> None:
    write(path)
    model = small() if into else None
    before = {k: v.clone() for k, v in model.state_dict().items()} if model is not None else {}
    with pytest.raises(ValueError, match=words) as caught:
        lp.load(path, model)
    assert "\n" not in str(caught.value)
    if model is not None:
        assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


# --- an own function -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        lambda: small(cost=lp.cost.Custom(lambda d: 1 + d)),
        lambda: small(lp.Points(torch.rand(6, 2), lambda a, b: torch.cdist(a, b)), target=lp.Grid(2, 2)),
    ],
)
def test_a_lambda_refuses_and_writes_nothing(layer: Callable[[], nn.Module], path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be saved, expected a function"):
        lp.save(layer(), path)
    assert os.listdir(path.parent) == []
    path.write_bytes(b"kept")
    with pytest.raises(ValueError, match="cannot be saved"):
        lp.save(layer(), path)
    assert path.read_bytes() == b"kept"


def test_functions_are_those_that_the_caller_passes(path: Path) -> None:
    """By ``custom``, or as part of the model that is loaded into; the file alone does not suffice."""
    saved = small(cost=lp.cost.Custom(reference.parabola))
    lp.save(saved, path)
    with pytest.raises(ValueError, match=r"f: got 'reference:parabola', which is not built in, expected .*custom"):
        lp.load(path)
    with pytest.raises(
        ValueError, match=r"model: got cost = .*Linear.*, expected .*reference:parabola.*as in the file"
    ):
        lp.load(path, small(), custom=FUNCTIONS)
    assert lp.load(path, custom=FUNCTIONS).cost == lp.cost.Custom(reference.parabola)
    other = small(cost=lp.cost.Custom(reference.parabola))
    equal(lp.load(path, other), saved)


@pytest.mark.parametrize(
    ("custom", "words"),
    [
        (3, "custom: got 3, expected a mapping"),
        ({"reference:parabola": "reference:parabola"}, "custom: got .*, expected a function"),
    ],
)
def test_what_is_passed_must_be_functions(custom: Any, words: str, path: Path) -> None:
    lp.save(small(cost=lp.cost.Custom(reference.parabola)), path)
    with pytest.raises((ValueError, TypeError), match=words):
        lp.load(path, custom=custom)


#: A function of torch that changes every module's forward, as a file might name it.
HOOK = "torch.nn.modules.module:register_module_forward_pre_hook"


@pytest.mark.parametrize(
    "change",
    [
        {"cost": {"type": "Custom", "f": HOOK}},
        {"source": {"type": "Points", "xyz": [[0.0]] * 6, "metric": HOOK}},
        {"source": {"type": "Channels", "base": {"type": "Points", "xyz": [[0.0]], "metric": HOOK}, "channels": 6}},
    ],
    ids=["cost", "metric", "a geometry within a geometry"],
)
@pytest.mark.parametrize("into", [False, True])
def test_loading_calls_nothing_that_a_file_names(change: dict[str, Any], into: bool, path: Path) -> None:
    save_file(TENSORS, path, {"locality-prior/1": json.dumps(said(small().config() | change))})
    hooks = torch.nn.modules.module._global_forward_pre_hooks
    assert not hooks
    try:
        words = "model: got (cost|source) = .*as in the file" if into else f"got '{HOOK}'"
        with pytest.raises(ValueError, match=words):
            lp.load(path, small() if into else None)
        assert not hooks
    finally:
        hooks.clear()


# --- long lists of numbers -------------------------------------------------------------------------------------------


def test_measured_distances_are_tensors_of_the_file(path: Path) -> None:
    """The header of a safetensors file holds no more than 100 MB, which 2,400 units would exceed as text."""
    lengths = torch.rand(300, 300, dtype=torch.float64)
    lengths[lengths > 0.5] = math.inf
    layer = lp.LocalityLinear(300, 300, source=lp.Distances(lengths), dtype=torch.bfloat16)
    lp.save(layer, path)
    assert int.from_bytes(path.read_bytes()[:8], "little") < 2000
    again = lp.load(path)
    assert again.source == layer.source
    equal(again, layer)


def test_equal_geometries_are_saved_once_and_stay_apart_from_others(path: Path) -> None:
    def model(other: float = 1.0) -> nn.Sequential:
        lengths = torch.arange(36.0).reshape(6, 6)
        sheets = (lp.Distances(lengths), lp.Distances(lengths.clone()), lp.Distances(other * lengths))
        return nn.Sequential(*(lp.LocalityLinear(6, 6, source=sheet) for sheet in sheets))

    saved, again = model(2.0), model(2.0)
    lp.save(saved, path)
    with safe_open(path, "pt") as file:
        assert sum(key.startswith("locality-prior:") for key in file.keys()) == 2  # noqa: SIM118
    equal(lp.load(path, again), saved)
    with pytest.raises(ValueError, match=r"model: got 2.source = .*Distances.*, expected .*, as in the file"):
        lp.load(path, model(3.0))


@pytest.mark.parametrize(
    "change",
    [{"source": 2}, {"source": "0"}, {"source": [0]}, {"source": {"type": "Line", "n": 6}}],
)
def test_a_geometry_that_is_not_there_is_told(change: dict[str, Any], path: Path) -> None:
    described = said(small().config())
    described["layers"][""] |= change
    save_file(TENSORS, path, {"locality-prior/1": json.dumps(described)})
    with pytest.raises(ValueError, match="expected a description of its layers"):
        lp.load(path)


def test_a_tensor_that_is_not_there_is_told(path: Path) -> None:
    config = small().config() | {"source": {"type": "Distances", "lengths": {"tensor": "lengths"}}}
    save_file(TENSORS, path, {"locality-prior/1": json.dumps(said(config))})
    with pytest.raises(ValueError, match="tensors: got no tensor 'lengths'"):
        lp.load(path)


@pytest.mark.parametrize(
    ("layer", "change"),
    [
        (lambda: lp.LocalityLinear(6, 4), {}),
        (lambda: lp.LocalityConv2d(6, 4, 3), {}),
        (lambda: lp.LocalityMultiheadAttention(4, 2), {}),
        (lambda: lp.LocalityGRU(6, 4), {}),
        (lambda: lp.LocalityGRU(6, 4), {"num_layers": 10**9}),
    ],
)
def test_a_layer_without_its_weights_is_told_before_its_prior_is_computed(
    layer: Callable[[], Any], change: dict[str, int], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file may describe a layer whose prior would take hours."""
    made = layer()
    lp.save(made, path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    described = json.loads(metadata["locality-prior/1"])
    described["layers"][""] |= change
    tensors = {k: v if change else torch.zeros(1, *v.shape[1:]) for k, v in made.state_dict().items()}
    save_file(tensors, path, {"locality-prior/1": json.dumps(described)})
    monkeypatch.setattr("locality_prior.prior.Prior.__init__", lambda *_: pytest.fail("a prior is computed"))
    with pytest.raises(ValueError, match=r"path: got .* with "):
        lp.load(path)


def test_a_deep_description_is_told(path: Path) -> None:
    save_file(TENSORS, path, {"locality-prior/1": "[" * 100_000})
    with pytest.raises(ValueError, match="expected a description of its layers"):
        lp.load(path)


# --- whole or not at all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["os.replace", "os.fsync", "pathlib.Path.write_bytes"])
def test_a_failed_save_leaves_the_old_file(broken: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = small(), small()
    lp.save(first, path)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        with pytest.raises(OSError, match="no space left"):
            lp.save(second, path)
    assert os.listdir(path.parent) == [path.name]
    equal(lp.load(path), first)
    lp.save(second, path)
    equal(lp.load(path), second)
