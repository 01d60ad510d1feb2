"""A training loop of your own with two objectives: one of the weights, which sets in slowly, and one of the responses.

    python examples/two_objectives.py

After each epoch it prints the task's loss, and each objective as it is measured and as it counts in the loss. The two
last lines say what became of the map: Moran's I of the mean response to each digit, and how well the correlation r of
two units' responses follows their distance d. The digits are scikit-learn's, which the extra ``experiments`` installs.
An objective that changes weights after a step, such as CBSOM, needs ``objective.after_step(progress)`` too.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import locality_prior as lp

digits = load_digits()
x, y = torch.from_numpy(digits.data).float() / 16, torch.from_numpy(digits.target)
sheet = lp.Grid(16, 16)


@torch.no_grad()
def described(net: nn.Module, sheets: lp.Placement) -> str:
    """How well a network tells the digits apart, and what its map is like."""
    with sheets.record() as seen:
        right = (net.eval()(x).argmax(1) == y).double().mean()
    maps = torch.stack([seen["2"][y == digit].mean(0) for digit in range(10)])
    moran = lp.analysis.morans_i(maps, sheet, permutations=1).i.mean()
    near = lp.analysis.response_correlation(seen["2"], sheet).score
    return f"{right:.1%} right, Moran's I {moran:.3f}, correlation of r with 1/(1 + d) {near:.3f}"


def main(epochs: int = 10) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(64, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 10))
    layers, sheets = lp.place(net, {"0": sheet}), lp.place(net, {"2": sheet})
    objectives = [
        lp.objectives.TopoLoss(layers, strength=lp.objectives.ramp(0.5, until=0.1)),
        lp.objectives.SpatialCorrelation(sheets, strength=0.25),
    ]
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    before = described(net, sheets)
    for epoch in range(epochs):
        net.train()
        batches = torch.randperm(len(x)).split(60)
        for step, batch in enumerate(batches):
            progress = (epoch + step / len(batches)) / epochs
            task = nn.functional.cross_entropy(net(x[batch]), y[batch])
            values = [objective.value() for objective in objectives]
            weighted = [o.weight(progress) * value for o, value in zip(objectives, values, strict=True)]
            optimizer.zero_grad()
            (task + sum(weighted)).backward()
            optimizer.step()
        parts = zip(objectives, values, weighted, strict=True)
        told = [f"{o.WORD} {value.item():.3f}, weighted {part.item():.3f}" for o, value, part in parts]
        print(f"epoch {epoch + 1}: loss {task.item():.3f}; {'; '.join(told)}")
    print("before:", before)
    print("after: ", described(net, sheets))


if __name__ == "__main__":
    main()
