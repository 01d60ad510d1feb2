"""What a wire costs, against formulas on plain numbers."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from collections.abc import Callable

import homemade
import numpy as np
import pytest
import reference
import torch
from reference import COSTS, CUSTOM
from torch.testing import assert_close

import locality_prior as lp
from locality_prior.cost import (
    KINDS,
    Cost,
    Custom,
    Flat,
    Gaussian,
    Linear,
    LinearDecay,
    Power,
    as_cost,
    from_config,
    parse,
    word,
)

rows = pytest.mark.parametrize(("cost", "price"), COSTS.values(), ids=COSTS)
LENGTHS = [0.0, 0.1, 0.5, 1.0, 1.5, 1.6, 1.7, 2.0, 2.4, 2.5, 3.0, 4.0, 7.3, 20.0, math.inf]


@rows
def test_cost_and_signal_are_the_formulas(cost: Cost, price: Callable[[float], float]) -> None:
    c, s = cost.cost(LENGTHS), cost.signal(LENGTHS)
    assert c.dtype == s.dtype == torch.float64
    for at, d in enumerate(LENGTHS):
        assert float(c[at]) == pytest.approx(price(d), rel=1e-14)
        assert float(s[at]) == pytest.approx(0 if price(d) == math.inf else 1 / price(d), rel=1e-14)
    assert c[0] == s[0] == 1
    assert ((c >= 1) & (s <= 1) & (s >= 0)).all()


def test_every_kind_is_in_the_rows() -> None:
    assert {type(cost) for cost, _ in COSTS.values()} == {*KINDS.values(), homemade.Logarithmic}


def test_a_wrong_formula_is_caught() -> None:
    with pytest.raises(AssertionError):
        test_cost_and_signal_are_the_formulas(LinearDecay(20.0), reference.there(lambda d: 1 + d))


@rows
def test_any_input_shape_and_type(cost: Cost, price: Callable[[float], float]) -> None:
    d = np.arange(6).reshape(1, 2, 3)
    expected = cost.signal(torch.tensor(d, dtype=torch.float64))
    for given in (d, d.tolist(), torch.from_numpy(d), torch.from_numpy(d.astype(np.float64))):
        assert torch.equal(cost.signal(given), expected)
    assert cost.signal(torch.from_numpy(d.astype(np.float32))).dtype == torch.float32
    assert cost.cost(2).shape == ()
    assert cost.cost(torch.empty(0, 3)).shape == (0, 3)


@rows
def test_gradients_are_finite(cost: Cost, price: Callable[[float], float]) -> None:
    d = torch.tensor(LENGTHS, dtype=torch.float64, requires_grad=True)
    cost.signal(d).sum().backward()
    assert d.grad is not None
    assert d.grad.isfinite().all()
    assert d.grad[-1] == 0
    d.grad = None
    c = cost.cost(d)
    c[c.isfinite()].sum().backward()
    assert d.grad is not None
    assert d.grad.isfinite().all()


@rows
def test_immutable_equal_by_value_and_hashed(cost: Cost, price: Callable[[float], float]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        cost.radius = 3.0  # type: ignore[misc]
    for again in (copy.deepcopy(cost), pickle.loads(pickle.dumps(cost))):
        assert again == cost
        assert hash(again) == hash(cost)
    assert cost != cost.within(1.25)
    assert sum(other == cost for other, _ in COSTS.values()) == 1


@rows
def test_config_goes_through_json(cost: Cost, price: Callable[[float], float]) -> None:
    config = json.loads(json.dumps(cost.config(), allow_nan=False))
    assert from_config(config, CUSTOM) == cost
    cut = cost.within(1.25)
    assert from_config(json.loads(json.dumps(cut.config(), allow_nan=False)), CUSTOM) == cut


@pytest.mark.parametrize(
    "cost",
    [cost for cost, _ in COSTS.values() if type(cost) in KINDS.values() and not isinstance(cost, Custom)]
    + [Power(p=1), Power(3, 1), Linear(1 / 3), Linear().within(0.1 * 3), LinearDecay(1)],
    ids=repr,
)
def test_repr_can_be_read_back(cost: Cost) -> None:
    assert eval(repr(cost), vars(lp.cost)) == cost


def test_repr_names_an_own_function() -> None:
    assert repr(Custom(reference.parabola).within(2)) == "Custom(parabola).within(2)"


def test_positional_arguments() -> None:
    assert Linear(2).length == Power(2, 1.5).length == 2
    assert Power(2, 1.5).p == 1.5
    assert LinearDecay(3).end == 3
    assert Linear() == Linear(1)
    assert isinstance(Linear(2).length, float)


# --- cut-offs --------------------------------------------------------------------------------------------------------


def test_a_cut_off_keeps_its_edge_despite_rounding() -> None:
    for radius, d in ((0.3, 0.1 * 3), (0.1 * 3, 0.3), (math.sqrt(2), math.hypot(1, 1)), (3, math.nextafter(3, 4))):
        assert Linear().within(radius).signal(d) > 0
    assert Linear().within(3).signal([3.0, 3.0001]).tolist() == [0.25, 0]


def test_a_linear_decay_ends_at_its_edge_despite_rounding() -> None:
    assert LinearDecay(0.3).signal([0.1 * 3, math.nextafter(0.3, 0), 0.3, 0.4]).tolist() == [0] * 4
    assert LinearDecay(0.3).cost(math.nextafter(0.3, 0)) == math.inf


def test_nested_cut_offs_keep_the_shortest() -> None:
    assert Linear().within(3).within(5) == Linear().within(5).within(3) == Linear().within(3) == Linear(radius=3)
    assert Linear().reach == math.inf
    assert Linear().within(3).reach == 3
    assert LinearDecay(4).reach == LinearDecay(4).within(9).reach == 4
    assert LinearDecay(4).within(2).reach == 2


def test_within_leaves_the_signal_inside() -> None:
    d = torch.linspace(0, 3, 31, dtype=torch.float64)
    for cost, _ in COSTS.values():
        assert_close(cost.within(1.45).signal(d), torch.where(d < 1.45, cost.signal(d), 0.0), rtol=0, atol=0)


# --- a user's own ----------------------------------------------------------------------------------------------------


def test_an_own_function_is_saved_by_import_path() -> None:
    config = Custom(reference.parabola).config()
    assert config == {"type": "Custom", "f": "reference:parabola"}
    assert from_config(config, {"reference:parabola": reference.parabola}) == Custom(reference.parabola)


@pytest.mark.parametrize("f", [lambda d: 1 + d, torch.nn.functional.softplus, math.exp, reference.decay(2.0)])
def test_what_has_no_import_path_works_but_cannot_be_saved(f: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"f: got .*cannot be saved, expected a function or class at the top"):
        Custom(f).config()


def test_a_lambda_works() -> None:
    assert Custom(lambda d: 1 + d).signal([0, 1, math.inf]).tolist() == [1, 0.5, 0]


def test_a_file_reaches_no_function_by_itself() -> None:
    """Neither one of a module still to import nor one of a module already imported: only what the caller passes."""
    hook = "torch.nn.modules.module:register_module_forward_pre_hook"
    for path in ("antigravity:fly", "os:system", "reference:parabola", "reference", hook, "builtins:print", 3, None):
        for custom in (None, {}, {"reference:other": reference.parabola}):
            with pytest.raises(ValueError, match=r"f: got .*, which is not built in, expected it to be passed by the"):
                from_config({"type": "Custom", "f": path}, custom)
    with pytest.raises(ValueError, match="cost: got 'os:system', which is not built in"):
        from_config({"type": "os:system"})
    with pytest.raises(ValueError, match=r"custom: got .* for 'reference:parabola', expected a subclass of Cost"):
        from_config({"type": "reference:parabola"}, CUSTOM)
    with pytest.raises(ValueError, match="custom: got 3 for 'reference:parabola', expected a function or class"):
        from_config({"type": "Custom", "f": "reference:parabola"}, {"reference:parabola": 3})
    with pytest.raises(TypeError, match=r"custom: got \[\], expected a mapping"):
        from_config({"type": "Custom", "f": "reference:parabola"}, [])  # type: ignore[arg-type]


# --- a class of a user's own -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [-3, 0, math.nan, "two", None])
def test_a_users_subclass_is_checked(length: object) -> None:
    """Whether or not its module has ``from __future__ import annotations``."""
    for kind in (homemade.Logarithmic, Postponed):
        with pytest.raises(ValueError, match=r"length: got .*, expected a finite number above 0"):
            kind(length)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="radius: got -1"):
        homemade.Logarithmic().within(-1)


@dataclasses.dataclass(frozen=True)
class Postponed(Cost):
    """A subclass in a module with ``from __future__ import annotations``."""

    length: float = 1.0

    def cost_of(self, d: torch.Tensor) -> torch.Tensor:
        return self.length * torch.ones_like(d)


def test_a_users_subclass_is_saved_under_its_own_name() -> None:
    cost = homemade.Logarithmic(3).within(5)
    config = cost.config()
    assert config == {"type": "homemade:Logarithmic", "length": 3.0, "radius": 5.0}
    with pytest.raises(ValueError, match="cost: got 'homemade:Logarithmic', which is not built in"):
        from_config(config)
    assert from_config(config, CUSTOM) == cost
    assert repr(cost) == "Logarithmic(length=3).within(5)"


def test_a_subclass_named_as_a_built_in_cost_is_not_taken_for_it() -> None:
    own = type("Linear", (Postponed,), {"__module__": "homemade"})
    with pytest.raises(ValueError, match="cost: got homemade:Linear, which cannot be saved"):
        own().config()
    with pytest.raises(ValueError, match=r"cost: got .*, expected one of linear, sqrt"):
        word(own())


def test_a_users_formula_is_checked() -> None:
    with pytest.raises(ValueError, match=r"Postponed: got cost 0.5 at d = 1, expected at least 1"):
        Postponed(0.5).signal([1.0])
    with pytest.raises(ValueError, match=r"Postponed: got cost 0.5 at d = 1, expected at least 1"):
        Postponed(0.5).cost([1.0])


# --- one word --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("linear", Linear()),
        ("Linear:2", Linear(2)),
        ("linear@2", Linear().within(2)),
        ("power:2,1.5", Power(2, 1.5)),
        ("power:2,1.5@4", Power(2, 1.5).within(4)),
        ("lineardecay:3", LinearDecay(3)),
        ("gaussian:0.5", Gaussian(0.5)),
        ("flat", Flat()),
    ],
)
def test_a_word_is_a_cost(text: str, cost: Cost) -> None:
    assert parse(text) == as_cost("cost", text) == cost
    assert parse(word(cost)) == cost
    assert as_cost("cost", cost) is cost


@pytest.mark.parametrize(
    ("spellings", "canonical"),
    [
        (["linear", "linear:1", "LINEAR:1.0", "linear:1e0"], "linear"),
        (["linear@3", "Linear:1@3.0"], "linear@3"),
        (["exponential:2", "exponential:2.0"], "exponential:2"),
        (["power:1,1.5", "power:1.0,1.50"], "power:1,1.5"),
    ],
)
def test_a_cost_has_one_word(spellings: list[str], canonical: str) -> None:
    assert {word(parse(text)) for text in spellings} == {canonical}


@pytest.mark.parametrize("value", [3, None, Linear, ["linear"], b"linear"], ids=repr)
def test_what_is_no_cost_is_refused_by_the_name_of_the_argument(value: object) -> None:
    with pytest.raises(TypeError, match=r"price: got .*, expected a cost, such as"):
        as_cost("price", value)
    with pytest.raises(ValueError, match="price: got 'cubic', expected"):
        as_cost("price", "cubic")


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Linear(0), "length: got 0, expected a finite number above 0"),
        (lambda: Linear(-1.0), "length: got -1.0"),
        (lambda: Linear(math.nan), "length: got nan"),
        (lambda: Linear(math.inf), "length: got inf"),
        (lambda: Linear("two"), "length: got two, expected a finite number above 0"),
        (lambda: Linear(True), "length: got True"),
        (lambda: Linear().within(0), "radius: got 0"),
        (lambda: Linear().within(-2), "radius: got -2"),
        (lambda: Linear().within(math.nan), "radius: got nan"),
        (lambda: Linear(radius=math.nan), "radius: got nan"),
        (lambda: Power(), "p: got None"),
        (lambda: Power(p=0), "p: got 0"),
        (lambda: LinearDecay(), "end: got None"),
        (lambda: LinearDecay(0), "end: got 0"),
        (lambda: Custom(), "f: got None, expected a function"),
        (lambda: Custom(3), "f: got 3, expected a function"),
        (lambda: Custom(lambda d: d).cost([0.5]), "f: got cost 0.5 at d = 0.5, expected at least 1"),
        (lambda: Custom(lambda d: d * math.nan).cost([0.5]), "f: got cost nan"),
        (lambda: Custom(lambda d: d.sum()).cost([1.0, 2.0]), r"f: got Tensor .*, expected a tensor of \(2,\)"),
        (lambda: Custom(lambda d: 1.0).cost([1.0]), "f: got float"),
        (lambda: from_config({"type": "Cubic"}), "cost: got .*Cubic.*, expected .*Linear"),
        (lambda: from_config({"type": ["Linear"]}), "cost: got "),
        (lambda: from_config({"type": "Linear", "width": 2}), "cost: got .*, expected the values of Linear"),
        (lambda: from_config({"type": "Linear", "length": -2}), "length: got -2"),
        (lambda: from_config([]), "cost: got "),
        (lambda: parse("cubic"), "cost: got 'cubic', expected name.* linear"),
        (lambda: parse("linear:1,2"), "cost: got 'linear:1,2', expected at most 1"),
        (lambda: parse("linear:x"), "cost: got 'linear:x', expected a finite number above 0 as its length"),
        (lambda: parse("linear@"), "cost: got 'linear@', expected a finite number above 0 as its radius"),
        (lambda: parse("linear@0"), "cost: got 'linear@0', expected a finite number above 0 as its radius"),
        (lambda: parse("linear:"), "cost: got 'linear:', expected a finite number above 0 as its length"),
        (lambda: parse("power:2"), "cost: got 'power:2' without p, expected a number for it too, such as power:2,2"),
        (lambda: parse("lineardecay"), "cost: got 'lineardecay' without end"),
        (lambda: parse("custom"), "cost: got 'custom'"),
    ],
)
def test_bad_input_is_named_in_one_line(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_negative_lengths_are_refused() -> None:
    for ask in (lp.cost.Linear().cost, lp.cost.Linear().signal):
        with pytest.raises(ValueError, match="d: got -3, expected lengths of at least 0"):
            ask(-3)
