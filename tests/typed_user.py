"""A user's file. ``.ci/package`` checks it with ``mypy --strict`` against the installed package."""

from typing import assert_type

import torch

import locality_prior as lp

sheet = lp.Grid(8, 8)
cost = lp.cost.Linear().within(3)
layer = lp.LocalityLinear(64, 64, source=sheet, target=sheet, cost=cost)

price = lp.wiring_cost(layer)
assert_type(price, torch.Tensor)
prior = lp.Prior(sheet, sheet, cost)
assert_type(prior, lp.Prior)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU())
placed = lp.place(model, {"1": sheet})
assert_type(placed, lp.Placement)
loss = price + lp.objectives.TopoLoss(lp.place(model, {"0": sheet}), strength=0.5)()
assert_type(loss, torch.Tensor)
assert_type(lp.__version__, str)

# Each wrong call must be an error, or mypy says that the comment is not needed.
lp.LocalityLinear("64", 64, source=sheet, target=sheet, cost=cost)  # type: ignore[arg-type]
lp.place(model, sheet)  # type: ignore[arg-type]
lp.cost.Linear().within("far")  # type: ignore[arg-type]
