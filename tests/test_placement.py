"""Which modules lie on which geometry: what is found, their weights and activations by unit, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior.catalog.language import Text
from locality_prior.runs import Recipe, Run, train
from locality_prior.runs.network import network


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 3))


SHEET = lp.Grid(3, 3)


def of(module: nn.Module, geometry: lp.Geometry) -> lp.Placement:
    """One module, placed."""
    return lp.place(nn.ModuleDict({"it": module}), {"it": geometry})


def seen_of(module: nn.Module, geometry: lp.Geometry, *given: Any, items: Any = False) -> Tensor:
    with of(module, geometry).record(items=items) as seen:
        module(*given)
    return seen["it"]


# Names


def test_names_patterns_and_types() -> None:
    net = mlp()
    modules, state = dict(net.named_modules()), dict(net.state_dict())
    placed = lp.place(net, {"2": SHEET, nn.ReLU: lp.Line(9), "[4-9]": lp.Line(3)})
    assert placed.names == tuple(placed) == ("2", "1", "3", "4")
    assert len(placed) == 4
    assert "1" in placed
    assert "0" not in placed
    assert [placed[name].geometry for name in placed] == [SHEET, lp.Line(9), lp.Line(9), lp.Line(3)]
    assert all(placed[name].module is modules[name] for name in placed)
    assert [placed[name].axis for name in placed] == [-1, None, None, -1]
    assert dict(net.named_modules()) == modules
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert lp.place(net, {nn.Linear: SHEET, "4": False}).names == ("0", "2")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"9": SHEET}, "targets: got '9', which matches no module, expected one of 0, 1, 2, 3, 4"),
        ({"?.x": SHEET}, "targets: got '?.x', which matches no module"),
        ({nn.GRU: SHEET}, "targets: got GRU, which matches no module"),
        ({"0": SHEET, "*": SHEET}, "targets: got '0' and '*', which both name 0, expected one key for each module"),
        (
            {"0": lp.Line(4)},
            "targets: got Grid(4) of 4 units for 0, a Linear of 9 units, expected a geometry of 9 units",
        ),
        ({"0": None}, "targets: got None for 0, expected a geometry"),
        ({"0": "sheet"}, "targets: got 'sheet' for 0, expected a geometry"),
        ({"0": torch.randn(9, 2)}, "targets: got Tensor of shape (9, 2) for 0, expected a geometry"),
        ({3: SHEET}, "targets: got the key 3, expected a module's name or type"),
        ({int: SHEET}, "targets: got the key <class 'int'>, expected a module's name or type"),
        ({"0": False}, "targets: got {'0': False}, expected a key whose value is not False"),
        ({}, "targets: got {}, expected a mapping"),
        (None, "targets: got None, expected a mapping"),
        ("0", "targets: got 0, expected a mapping"),
        (7, "targets: got 7, expected a mapping"),
        (torch.zeros(3), "targets: got Tensor of shape (3,), expected a mapping"),
    ],
)
def test_what_is_refused(targets: Any, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(said)}") as error:
        lp.place(mlp(), targets)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", [None, "net", 3, torch.zeros(3), nn.Linear])
def test_a_model_is_a_module(model: Any) -> None:
    with pytest.raises(TypeError, match=r"^model: got .*, expected a torch.nn.Module$"):
        lp.place(model, {"0": SHEET})


def test_a_model_holds_modules() -> None:
    with pytest.raises(
        ValueError, match=r"^model: got a Linear, which holds no modules, expected a model that holds some$"
    ):
        lp.place(nn.Linear(4, 9), {"0": SHEET})


def test_a_part_of_attention_is_refused() -> None:
    net = nn.ModuleDict({"attention": nn.MultiheadAttention(9, 3)})
    with pytest.raises(ValueError, match="never calls it"):
        lp.place(net, {"attention.out_proj": SHEET})
    assert lp.place(net, {"**": SHEET}).names == ("attention",)


def test_an_unknown_name() -> None:
    placed = lp.place(mlp(), {"0": SHEET})
    with placed.record() as seen:
        pass
    for ask in (lambda: placed["1"], lambda: placed.weights("1"), lambda: seen["1"]):
        with pytest.raises(ValueError, match=r"^name: got '1', expected one of 0$"):
            ask()


# Weights


def test_weights_of_linear_and_convolution() -> None:
    assert of(linear := nn.Linear(4, 9), SHEET).weights("it") is linear.weight
    for conv in (nn.Conv1d(4, 9, 2), nn.Conv2d(4, 9, (2, 3)), nn.Conv2d(6, 9, 3, groups=3), nn.Conv3d(1, 9, 2)):
        assert_close(of(conv, SHEET).weights("it"), conv.weight.reshape(9, -1))


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_weights_of_recurrent_networks(kind: type[nn.RNNBase], bidirectional: bool) -> None:
    net = kind(4, 9, num_layers=2, bidirectional=bidirectional)
    units = lp.Grid(3, 3).with_channels(2) if bidirectional else SHEET
    placed = of(net, units)
    gates = net.weight_hh_l0.shape[0] // 9
    assert placed.weights("it", layer=0).shape == (len(units), gates * (4 + 9))
    assert_close(placed.weights("it"), placed.weights("it", layer=1))
    row = placed.weights("it", layer=0)[len(units) - 5]
    suffix = "_reverse" if bidirectional else ""
    expected = [getattr(net, f"weight_{k}_l0{suffix}")[g * 9 + 4] for k in ("ih", "hh") for g in range(gates)]
    assert_close(row, torch.cat(expected))
    with pytest.raises(ValueError, match="layer: got 2, expected a layer from -2 to 1"):
        placed.weights("it", layer=2)


def test_weights_of_attention_are_those_into_its_outputs() -> None:
    attention = nn.MultiheadAttention(9, 3)
    assert of(attention, SHEET).weights("it") is attention.out_proj.weight


def test_weights_of_locality_layers_are_effective() -> None:
    cost = lp.cost.Linear().within(1.5)
    layers: list[Any] = [
        lp.LocalityLinear(9, 9, cost=cost),
        lp.LocalityLinear(9, 9, cost=cost, backend="wires"),
        lp.LocalityConv2d(9, 9, 2, cost=cost),
        lp.LocalityGRU(9, 9, cost=cost),
        lp.LocalityMultiheadAttention(9, 3, cost=cost),
    ]
    for layer in layers:
        plain = layer.fold()
        assert_close(of(layer, SHEET).weights("it"), of(plain, SHEET).weights("it"))
        assert not torch.equal(of(layer, SHEET).weights("it"), torch.zeros(1))


def test_gradients_of_weights_reach_the_parameters() -> None:
    for layer in (nn.LSTM(4, 9), lp.LocalityLinear(9, 9, cost=lp.cost.Linear().within(1), backend="wires")):
        of(layer, SHEET).weights("it").square().sum().backward()
        weight = next(layer.parameters())
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.ReLU(), "name: got it, a ReLU, which has no weights into its units, expected a linear"),
        (nn.BatchNorm1d(9), "name: got it, a BatchNorm1d, which has no weights into its units"),
        (nn.LSTM(4, 12, proj_size=9), "name: got it, a LSTM with a projection, expected one with proj_size=0"),
    ],
)
def test_modules_without_weights_say_so(module: nn.Module, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        of(module, SHEET).weights("it")


# Activations


def test_activations_are_what_the_modules_gave() -> None:
    net, x = mlp(), torch.randn(5, 4)
    placed = lp.place(net, {nn.ReLU: SHEET, "0": SHEET})
    with placed.record() as seen:
        net(x)
        net(2 * x)
    assert list(seen) == ["1", "3", "0"]
    both = torch.cat([x, 2 * x])
    assert_close(seen["0"], net[0](both))
    assert_close(seen["1"], net[:2](both))
    assert_close(seen["3"], net[:4](both))
    assert not any(m._forward_hooks for m in net.modules())


def test_hooks_are_gone_after_an_exception() -> None:
    net = mlp()
    with pytest.raises(RuntimeError, match="shapes"), lp.place(net, {"1": SHEET}).record():
        net(torch.randn(5, 3))
    assert not any(m._forward_hooks for m in net.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_gradients_flow_unless_told_otherwise() -> None:
    net, x = mlp(), torch.randn(5, 4)
    placed = lp.place(net, {"2": SHEET})
    with placed.record() as seen:
        net(x)
    seen["2"].sum().backward()
    assert net[0].weight.grad is not None
    assert net[4].weight.grad is None
    with torch.no_grad(), placed.record() as seen:
        net(x)
    assert not seen["2"].requires_grad


def test_in_place_operations_afterwards_change_nothing() -> None:
    net, x = nn.Sequential(nn.Linear(4, 9), nn.ReLU(inplace=True)), torch.randn(5, 4)
    placed = lp.place(net, {"0": SHEET})
    for items in (False, True):
        with placed.record(items=items) as seen:
            net(x)
        assert_close(seen["0"], net[0](x))
        assert (seen["0"] < 0).any()


def test_a_module_that_is_not_called() -> None:
    with lp.place(mlp(), {"0": SHEET}).record() as seen:
        pass
    with pytest.raises(RuntimeError, match=r"^0 was not called within the record\(\) block"):
        _ = seen["0"]


def rows(y: Tensor, axis: int) -> Tensor:
    return y.movedim(axis, -1).reshape(-1, 9)


@pytest.mark.parametrize(
    ("module", "shape", "axis"),
    [
        (nn.Linear(4, 9), (2, 5, 4), -1),
        (nn.Linear(4, 9), (9, 9, 4), -1),
        (nn.Conv2d(4, 9, 2), (2, 4, 3, 3), 1),
        (nn.Conv1d(4, 9, 2), (2, 4, 3), 1),
        (nn.BatchNorm2d(9), (2, 9, 9, 9), 1),
        (nn.GroupNorm(3, 9), (2, 9, 4), 1),
        (nn.LayerNorm(9), (2, 9, 9), -1),
        (nn.ReLU(), (2, 9), -1),
        (nn.ReLU(), (9, 9), -1),
        (nn.ReLU(), (2, 9, 4, 4), 1),
        (nn.ReLU(), (2, 9, 9, 9), 1),
        (nn.ReLU(), (2, 9, 4), 1),
        (nn.GELU(), (2, 4, 9), -1),
        (nn.GELU(), (2, 4, 3, 9), -1),
    ],
)
def test_which_axis_the_units_go_along(module: nn.Module, shape: tuple[int, ...], axis: int) -> None:
    x = torch.randn(shape)
    y = module(x)
    assert_close(seen_of(module, SHEET, x), rows(y, axis))
    others = [k for k in range(1, y.dim()) if k != axis % y.dim()]
    assert_close(seen_of(module, SHEET, x, items=True), y.mean(others) if others else y)


def test_a_feature_map_lies_place_by_place() -> None:
    """As flattened by torch, channel by channel: what a fully connected layer after it is given."""
    sheet = lp.Grid(2, 3).with_channels(4)
    conv, x = nn.Conv2d(1, 4, 1), torch.randn(5, 1, 2, 3)
    for module, given in ((conv, x), (nn.ReLU(), conv(x)), (nn.Flatten(), conv(x))):
        for items in (False, True):
            assert_close(seen_of(module, sheet, given, items=items), module(given).flatten(1))
    x = torch.zeros(1, 4, 2, 3)
    x[:, 1, 1, 0] = 1
    unit = int(seen_of(nn.Identity(), sheet, x).argmax())
    assert sheet.positions[unit].tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="name: got it, whose weights belong to 4 units and its geometry to 24"):
        of(conv, sheet).weights("it")


def test_one_image_without_a_batch() -> None:
    conv, x = nn.Conv2d(1, 9, 1), torch.randn(1, 9, 9)
    assert_close(seen_of(conv, SHEET, x), conv(x).flatten(1).T)
    assert_close(seen_of(conv, SHEET, x, items=True), conv(x).mean((1, 2))[None])
    linear = nn.Linear(4, 9)
    for items in (False, True):
        assert_close(seen_of(linear, SHEET, x[0, 0, :4], items=items), linear(x[0, 0, :4])[None])


def test_an_output_that_does_not_fit() -> None:
    said = "targets: got Grid(3, 3) of 9 units for it, whose output has shape (2, 4, 5), expected one axis of"
    with pytest.raises(ValueError, match=re.escape(said)):
        seen_of(nn.ReLU(), SHEET, torch.randn(2, 4, 5))


def test_an_output_without_a_tensor() -> None:
    class Words(nn.Module):
        def forward(self) -> str:
            return "words"

    with pytest.raises(ValueError, match="targets: got it, whose output is a str, expected a module that gives"):
        seen_of(Words(), SHEET)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, lp.LocalityLSTM])
@pytest.mark.parametrize("batch_first", [False, True])
def test_recurrent_activations(kind: Callable[..., nn.Module], batch_first: bool) -> None:
    net, x = kind(4, 9, batch_first=batch_first), torch.randn(5, 2, 4)
    y = net(x)[0]
    assert_close(seen_of(net, SHEET, x), y.reshape(-1, 9))
    assert_close(seen_of(net, SHEET, x, items=True), y.mean(1 if batch_first else 0))
    assert_close(seen_of(net, SHEET, x[0], items=True), net(x[0])[0].mean(0, keepdim=True))
    assert_close(seen_of(net, SHEET, x, items="last"), y[:, -1] if batch_first else y[-1])
    assert_close(seen_of(net, SHEET, x[0], items="last"), net(x[0])[0][-1:])


def test_packed_sequences() -> None:
    net, x = nn.GRU(4, 9, batch_first=True), torch.randn(2, 5, 4)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([3, 5]), batch_first=True, enforce_sorted=False)
    assert_close(seen_of(net, SHEET, packed), net(packed)[0].data)
    expected = torch.stack([net(x[:1, :3])[0][0].mean(0), net(x[1:])[0][0].mean(0)])
    assert_close(seen_of(net, SHEET, packed, items=True), expected)
    last = torch.stack([net(x[:1, :3])[0][0, -1], net(x[1:])[0][0, -1]])
    assert_close(seen_of(net, SHEET, packed, items="last"), last)


def test_the_last_token() -> None:
    """Of the one axis along which tokens can be; where there is none, an item is a row."""
    x = torch.randn(2, 5, 9)
    assert_close(seen_of(nn.ReLU(), SHEET, x, items="last"), x[:, -1].relu())
    conv = nn.Conv1d(9, 9, 1)
    assert_close(seen_of(conv, SHEET, x.mT, items="last"), conv(x.mT)[..., -1])
    assert_close(seen_of(nn.ReLU(), SHEET, x[:, 0], items="last"), x[:, 0].relu())
    said = "got it, whose output of shape (2, 9, 5, 4) has 2 axes of positions, expected one axis of tokens, of which"
    with pytest.raises(ValueError, match=re.escape(said)):
        seen_of(nn.ReLU(), SHEET, torch.randn(2, 9, 5, 4), items="last")


@pytest.mark.parametrize("batch_first", [False, True])
def test_attention_activations(batch_first: bool) -> None:
    net, x = nn.MultiheadAttention(9, 3, batch_first=batch_first), torch.randn(5, 2, 9)
    y = net(x, x, x)[0]
    assert_close(seen_of(net, SHEET, x, x, x), y.reshape(-1, 9))
    assert_close(seen_of(net, SHEET, x, x, x, items=True), y.mean(1 if batch_first else 0))


@pytest.mark.parametrize("batch_first", [False, True])
def test_items_inside_torchs_transformers(batch_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 9, 0.0, batch_first=batch_first)
    net, x = nn.Sequential(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.ReLU()), torch.randn(5, 2, 8)
    with lp.place(net, {"**.linear1": SHEET, "0": lp.Line(8), "1": lp.Line(8)}).record(items=True) as seen:
        y = net(x)
    items = 5 if batch_first else 2
    assert seen["0.layers.0.linear1"].shape == (items, 9)
    assert_close(seen["0"], net[0](x).mean(1 if batch_first else 0))
    assert_close(seen["1"], y.mean(1))  # outside, the batch goes along axis 0


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_torchs_encoder_takes_no_fast_path() -> None:
    """Which calls no module, and nests padded tensors."""
    layer = nn.TransformerEncoderLayer(8, 2, 9, batch_first=True)
    net, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(3, 5, 8)
    padding = torch.tensor([[False] * 4 + [True]] * 3)
    placed = lp.place(net, {"linear1": SHEET, "layers.*": lp.Line(8)})
    for given in ({}, {"src_key_padding_mask": padding}):
        with torch.no_grad(), placed.record() as seen:
            y = net(x, **given)
        assert seen["layers.0.linear1"].shape == (15, 9)
        assert_close(seen["layers.1"], y.reshape(-1, 8))


def test_vision_transformers_mlp() -> None:
    vision = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    net = vision.VisionTransformer(16, 8, 2, 2, 8, 9, num_classes=3)
    placed = lp.place(net, {"mlp.0": SHEET, "**.mlp.1": SHEET, "mlp": lp.Line(8), "heads.head": lp.Line(3)})
    assert placed.names[:2] == tuple(f"encoder.layers.encoder_layer_{k}.mlp.0" for k in range(2))
    with placed.record(items=True) as seen:
        net(torch.randn(4, 3, 16, 16))
    assert [seen[name].shape for name in seen] == [(4, 9)] * 4 + [(4, 8)] * 2 + [(4, 3)]
    assert placed.weights("encoder.layers.encoder_layer_1.mlp.0").shape == (9, 8)
    with pytest.raises(ValueError, match="a MLPBlock, which has no weights into its units"):
        placed.weights("encoder.layers.encoder_layer_1.mlp")


def test_gpt2() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=2, n_head=2, n_inner=9)
    net = transformers.GPT2LMHeadModel(config).eval()
    placed = lp.place(net, {"**.mlp.c_fc": SHEET, "**.mlp.act": SHEET, "h.1": lp.Line(8), "transformer": lp.Line(8)})
    fc = net.transformer.h[1].mlp.c_fc
    assert_close(placed.weights("transformer.h.1.mlp.c_fc"), fc.weight.T)
    with placed.record() as seen:
        net(torch.randint(0, 20, (3, 5)))
    assert seen["transformer.h.0.mlp.c_fc"].shape == (15, 9)
    assert seen["transformer.h.1"].shape == (15, 8)  # a tuple's first tensor
    assert seen["transformer"].shape == (15, 8)  # a ModelOutput's
    assert_close(seen["transformer.h.1.mlp.act"], net.transformer.h[1].mlp.act(seen["transformer.h.1.mlp.c_fc"]))


def test_gpt2_learns_a_text(tmp_path: Path) -> None:
    """Through the door for models: what it gives holds its logits. It is measured, localized, at the last token."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    task = Text("the cat sat on the mat. " * 20, context=8, windows=32, validation=20, test=40)
    config = transformers.GPT2Config(
        vocab_size=task.vocabulary, n_positions=8, n_embd=8, n_layer=1, n_head=2, n_inner=16
    )
    net = transformers.GPT2LMHeadModel(config)
    places = {"place": {"h.0.mlp.act": "4x4"}, "local": {"h.0.mlp.c_fc": ["2x4", "4x4"]}}
    run = Run(task, net, "linear@2", recipe=Recipe("adamw", 0.01, epochs=1, batch_size=8), **places)
    assert train(run, tmp_path / "run")
    told = json.loads((tmp_path / "run" / "analysis.json").read_text())
    found = [told["measures"][key] for key in ("bits_per_byte", "morans_i.transformer.h.0.mlp.act")]
    assert np.isfinite(found).all()
    made = network(run, task)
    v = lp.fold(made.model).get_submodule("transformer.h.0.mlp.c_fc").weight.detach().T  # which has it as (in, out)
    assert_close(made.layers[0].strength(made.model), v.abs())
    assert_close(made.layers[0].incoming(made.model), v)
    assert task.log_probabilities(net, ["the cat"])[0] < 0


def test_records_within_records() -> None:
    net, x = mlp(), torch.randn(5, 4)
    placed = lp.place(net, {"0": SHEET})
    with placed.record() as outer:
        with placed.record() as inner:
            net(x)
        net(x)
    assert (len(inner["0"]), len(outer["0"])) == (5, 10)


@pytest.mark.parametrize("items", [None, "yes", 1, torch.zeros(2)])
def test_items_is_true_false_or_last(items: Any) -> None:
    with (
        pytest.raises(ValueError, match=r"^items: got .*, expected one of False, True, last$"),
        lp.place(mlp(), {"0": SHEET}).record(items),
    ):
        pass
