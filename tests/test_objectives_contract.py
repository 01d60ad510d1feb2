"""What every objective owes its user, whatever it measures: one suite over all kinds."""

from __future__ import annotations

import copy
import io
import json
import weakref
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior.objectives import Objective, base, from_config, ramp, steps, words
from locality_prior.objectives.kinds import KINDS

SHEET = lp.Grid(8, 8)
SMALL = lp.Grid(4, 4)
every = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.WORD)


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    parts: dict[str, nn.Module] = {"first": nn.Linear(16, 64), "norm": nn.BatchNorm1d(64), "one": nn.Tanh()}
    parts |= {"second": nn.Linear(64, 64), "two": nn.Tanh(), "head": nn.Linear(64, 3)}
    return nn.Sequential(OrderedDict(parts)).to(dtype)


def placement(model: nn.Module, kind: type[Objective]) -> lp.Placement:
    """A square layer between two sheets, or a sheet's responses."""
    return lp.place(model, {"two": SHEET} if kind.OF == "responses" else {"second": (SHEET, SHEET)})


def trained(model: nn.Module, objective: Objective, batch: Tensor, progress: float = 0.5) -> Tensor:
    """A forward and a backward pass with the objective added to a loss; the objective's value."""
    output = model(batch)
    value = objective.value()
    (output.float().square().mean() + objective.weight(progress) * value).backward()
    objective.after_step(progress)
    return value.detach()


def inputs(n: int = 12, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(1)).to(dtype)


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


@every
def test_a_scalar_with_finite_gradients(kind: Any) -> None:
    model = network()
    value = trained(model, kind(placement(model, kind)), inputs())
    assert value.shape == ()
    assert value.isfinite()
    assert not value.is_complex()
    assert gradients(model)
    assert all(g.isfinite().all() for g in gradients(model))


@every
def test_nothing_that_is_undefined_becomes_nan(kind: Any) -> None:
    model = network()
    with torch.no_grad():
        model.second.weight.zero_()
        model.second.bias.zero_()
    objective = kind(placement(model, kind))
    value = trained(model, objective, inputs())
    assert value.isfinite()
    assert all(g.isfinite().all() for g in gradients(model))
    assert all(p.isfinite().all() for p in model.parameters())


@every
def test_its_call_is_strength_times_value(kind: Any) -> None:
    model = network()
    strong = kind(placement(model, kind), base.usual_strength(kind))
    model(inputs())
    called = strong()
    model(inputs())
    assert_close(called, base.usual_strength(kind) * strong.value())


@every
def test_half_precision_is_measured_in_float32(kind: Any) -> None:
    models = network(), network(torch.bfloat16)
    values = []
    for model in models:
        objective = kind(placement(model, kind))
        values.append(trained(model, objective, inputs(dtype=model.head.weight.dtype)))
        assert all(g.isfinite().all() for g in gradients(model))
    assert values[1].dtype == torch.float32
    assert_close(values[1], values[0], rtol=0.05, atol=0.02)


@every
def test_autocast_changes_no_dtype(kind: Any) -> None:
    model = network()
    objective = kind(placement(model, kind))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(inputs())
        value = objective.value()
    assert value.dtype == torch.float32
    assert value.isfinite()


@every
def test_a_model_without_memory_can_be_bound_and_filled_afterwards(kind: Any) -> None:
    with torch.device("meta"):
        model = network()
        objective = kind(placement(model, kind))
        assert trained(model, objective, torch.empty(12, 16)).is_meta or not objective.LOSS
    objective.remove()
    with torch.device("meta"):
        model = network()
    objective = kind(placement(model, kind))
    model.to_empty(device="cpu").load_state_dict(network().state_dict(), strict=False)
    twin = network()
    assert_close(trained(model, objective, inputs()), trained(twin, kind(placement(twin, kind)), inputs()))


@every
def test_it_is_bound_again_from_plain_values_and_from_its_word(kind: Any) -> None:
    model = network()
    placed = placement(model, kind)
    first = kind(placed)
    config = json.loads(json.dumps(first.config()))
    first.remove()
    again = from_config(config, placed)
    assert type(again) is kind
    assert again.config() == first.config()
    word = words.canonical("objective", kind.WORD)
    assert words.canonical("objective", word) == word
    again.remove()
    (bound,) = words.bind(word, placed, placed)
    assert bound.config() == first.config()


@every
def test_binding_draws_nothing_and_removing_leaves_nothing(kind: Any) -> None:
    model = network().eval()
    before, keys = model(inputs()), set(model.state_dict())
    state = torch.get_rng_state()
    objective = kind(placement(model, kind))
    assert torch.equal(torch.get_rng_state(), state)
    objective.remove()
    assert set(model.state_dict()) == keys
    assert_close(model(inputs()), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@every
@pytest.mark.parametrize("strength", [-0.1, float("nan"), "much"])
def test_a_strength_below_zero_is_one_line(kind: Any, strength: Any) -> None:
    model = network()
    with pytest.raises((ValueError, TypeError), match=r"strength: got .*, expected") as caught:
        kind(placement(model, kind), strength)
    assert "\n" not in str(caught.value)


@every
def test_it_is_bound_to_a_placement(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"placed: got .*, expected a placement"):
        kind(network())


@every
def test_it_compiles_with_the_model(kind: Any) -> None:
    torch._dynamo.reset()
    model, twin = network(), network()
    objective, other = (kind(placement(m, kind)) for m in (model, twin))
    compiled = torch.compile(model, backend="eager")
    assert_close(trained(compiled, objective, inputs()), trained(twin, other, inputs()))
    for ours, theirs in zip(gradients(model), gradients(twin), strict=True):
        assert_close(ours, theirs)


@every
def test_what_was_compiled_before_is_compiled_again(kind: Any) -> None:
    model, twin = network().eval(), network().eval()
    torch.compile(model, backend="eager")(inputs())  # another network of the same class has been compiled as well
    compiled = torch.compile(twin, backend="eager")
    before = compiled(inputs())
    objective = kind(placement(twin, kind))
    other = kind(placement(model, kind))
    assert_close(trained(compiled, objective, inputs()), trained(model, other, inputs()))
    for ours, theirs in zip(gradients(twin), gradients(model), strict=True):
        assert_close(ours, theirs)
    if kind.WORD != "cbsom":  # which has changed the weights
        objective.remove()
        assert_close(compiled(inputs()), before)


@every
def test_a_copy_of_the_network_is_left_alone(kind: Any) -> None:
    model = network()
    objective = kind(placement(model, kind))
    before = copy.deepcopy(model.state_dict())
    trained(model, objective, inputs())
    if type(objective).after_step is Objective.after_step:  # losses change no weight by themselves
        weights = {k: v for k, v in model.state_dict().items() if "norm" not in k}
        assert all(torch.equal(v, before[k]) for k, v in weights.items())


RESPONSES = [kind for kind in KINDS.values() if issubclass(kind, base.OfResponses)]
of_responses = pytest.mark.parametrize("kind", RESPONSES, ids=lambda kind: kind.WORD)


@of_responses
def test_a_module_that_is_never_called_is_one_line(kind: Any) -> None:
    model = network()
    objective = kind(lp.place(model, {"two": SHEET}))
    with pytest.raises(RuntimeError, match=r"two was not called in the model's last training pass"):
        objective()


@of_responses
def test_only_the_last_training_pass_counts(kind: Any) -> None:
    model = network().eval()
    objective = kind(lp.place(model, {"two": SHEET}))
    model(inputs())
    alone = objective.value()
    model(-inputs())  # a pass whose objective nobody asked for
    model(inputs())
    with torch.no_grad():
        model(torch.zeros(5, 16))  # a validation between pass and step
    assert_close(objective.value(), alone)


@of_responses
def test_a_copied_network_gives_the_objective_nothing(kind: Any) -> None:
    model = network().eval()
    objective = kind(lp.place(model, {"two": SHEET}))
    model(inputs())
    alone = objective.value()
    model(inputs())
    teacher = copy.deepcopy(model)  # between a pass and its objective
    teacher(-inputs(5))
    assert_close(objective.value(), alone)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert_close(loaded(inputs()), model(inputs()))


@of_responses
def test_an_objective_that_is_not_used_any_more_leaves_the_model(kind: Any) -> None:
    model = network()
    objective = weakref.ref(kind(lp.place(model, {"two": SHEET})))
    assert objective() is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@every
def test_a_copied_objective_is_the_copied_networks(kind: Any) -> None:
    model = network().eval()
    objective = kind(placement(model, kind))
    model(inputs())
    other = copy.deepcopy(objective)
    twin = other.placed.model
    assert twin is not model
    assert_close(trained(twin, other, inputs()), trained(model, objective, inputs()))
    assert other.config() == objective.config()
    for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        assert_close(ours, theirs)


@of_responses
def test_one_sample_is_one_line(kind: Any) -> None:
    model = network().eval()
    objective = kind(lp.place(model, {"two": SHEET}))
    model(inputs(1))
    if kind.WORD != "tica":  # the mean over one sample is defined
        with pytest.raises(ValueError, match="responses: got 1 sample, expected at least 2"):
            objective.value()


@of_responses
def test_channels_of_images_and_tokens_of_sequences(kind: Any) -> None:
    torch.manual_seed(0)
    images = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())
    objective = kind(lp.place(images, {"0": SMALL}))
    images(torch.randn(4, 3, 6, 6))
    assert objective().isfinite()
    recurrent = nn.GRU(5, 16, batch_first=True)
    objective = kind(lp.place(nn.Sequential(OrderedDict(rnn=recurrent)), {"rnn": SMALL}))
    objective.placed.model(torch.randn(4, 7, 5))
    assert objective().isfinite()


def test_strengths_over_training() -> None:
    rising = ramp(2.0, until=0.5)
    assert [rising(p) for p in (0.0, 0.25, 0.5, 1.0)] == [0.0, 1.0, 2.0, 2.0]
    jumping = steps(0.01)
    assert [jumping(p) for p in (0.0, 0.25, 0.49, 0.5, 1.0)] == pytest.approx([0.01, 0.1, 0.1, 1.0, 1.0])
    kind = RESPONSES[0]
    model = network()
    objective = kind(placement(model, kind), lambda progress: 3 * progress)
    assert objective.weight(0.5) == 1.5
    with pytest.raises(ValueError, match="progress: got None, expected the share of training"):
        objective()
    with pytest.raises(ValueError, match="progress: got 2"):
        kind(placement(model, kind), rising)(2)


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("topoloss:0.5,2", ["topoloss:0.5", "topoloss:2"]),
        ("topoloss:0.50", ["topoloss:0.5"]),
        ("topoloss:5e-1,ramp=0.10", ["topoloss:0.5,ramp=0.1"]),
        ("bimt:0.01,steps=0.25/0.5", ["bimt:0.01,steps=0.25/0.5"]),
        (
            "topoloss:1,2+spatial_correlation:0.25",
            ["topoloss:1+spatial_correlation:0.25", "topoloss:2+spatial_correlation:0.25"],
        ),
        ("none", ["none"]),
    ],
)
def test_words(word: str, found: list[str]) -> None:
    assert words.several("objective", word) == found
    assert [words.canonical("objective", one) for one in found] == found


@pytest.mark.parametrize(
    "word",
    ["", "topo", "topoloss:", "topoloss:x", "topoloss:-1", "topoloss:1,1", "topoloss:1,size=3", "topoloss:1,ramp=2",
     "topoloss:nan", "topoloss:1+", "topoloss:1+none", "bimt:1,steps=0.5/0.25", "bimt:1,steps=", "topoloss:1,factor=x",
     "topoloss:1,factor=2,factor=3", "topoloss:1,ramp=0.1,ramp=0.2", "topoloss:1,times=3"],
)  # fmt: skip
def test_a_word_that_is_none_is_one_line(word: str) -> None:
    with pytest.raises(ValueError, match=r"objective|ramp|steps|at: got|strength") as caught:
        words.several("objective", word)
    assert "\n" not in str(caught.value)
    assert "got" in str(caught.value)
