"""Your own training loop: a control and a local network for each seed, measured and compared on one page.

    python examples/own_loop.py results/own-loop

``record`` writes for each trained network what a study would have written. The page,
results/own-loop/report.html, is made from these files. This example needs the extra ``experiments``.
"""

import sys
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

import locality_prior as lp
from locality_prior.runs import Task, record
from locality_prior.studies import find

sheet = lp.Grid(12, 12)
layers = {"fc1": sheet, "fc2": sheet}  # the layers that are made local
sheets = {"sheet1": sheet, "sheet2": sheet}  # the modules whose activations are measured


def blobs(items: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy images of 12×12 pixels with a bright spot, and the number of the quarter that it is in."""
    draw = torch.Generator().manual_seed(seed)
    quarter = torch.randint(4, (items,), generator=draw)
    spot = torch.stack([quarter // 2, quarter % 2], dim=1) * 6 + 5.5 * torch.rand(items, 2, generator=draw)
    light = torch.exp(-torch.cdist(spot, sheet.positions.float()).square() / 4)
    return light + 0.5 * torch.rand(items, 144, generator=draw), quarter


def network() -> nn.Sequential:
    parts = {"fc1": nn.Linear(144, 144), "norm1": nn.BatchNorm1d(144), "sheet1": nn.ReLU()}
    parts |= {"fc2": nn.Linear(144, 144), "norm2": nn.BatchNorm1d(144), "sheet2": nn.ReLU()}
    return nn.Sequential(OrderedDict(parts | {"head": nn.Linear(144, 4)}))


def main(folder: Path, seeds: tuple[int, ...] = (1, 2, 3), steps: int = 300) -> None:
    x, y = blobs(2000, seed=1)
    task = Task.classification(train=(x, y), test=blobs(1000, seed=2), classes=["NW", "NE", "SW", "SE"], name="blobs")
    for seed in seeds:
        for condition in ("control", "linear@2"):
            torch.manual_seed(seed)  # both networks start from the same weights and see the same batches
            model = network()
            if condition != "control":
                lp.localize(model, layers, cost=condition, keep="weights")
            optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-3)
            for _ in range(steps):
                batch = torch.randint(len(x), (64,))
                loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            home = folder / f"{condition}-seed{seed}"
            placed = lp.place(model, sheets)
            found = record(model, placed, task, home, condition=condition, seed=seed, local=layers)
            print(f"{condition}, seed {seed}: accuracy {found['measures']['accuracy']:.1f} %")
    find(folder)  # compares the conditions, seed by seed
    print(lp.report.write(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/own-loop"))
