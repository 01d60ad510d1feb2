"""A locality layer in your own model: train it with a wiring cost, measure it, and fold it into a plain layer."""

import torch

import locality_prior as lp

torch.manual_seed(0)
sheet = lp.Grid(16, 16)
model = torch.nn.Sequential(
    torch.nn.Linear(20, 256),
    torch.nn.ReLU(),
    lp.LocalityLinear(256, 256, source=sheet, target=sheet, cost=lp.cost.Linear().within(6)),
    torch.nn.BatchNorm1d(256),
    torch.nn.ReLU(),
    torch.nn.Linear(256, 5),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
teacher = torch.randn(20, 5)

for step in range(200):
    x = torch.randn(64, 20)
    error = torch.nn.functional.cross_entropy(model(x), (x @ teacher).argmax(1))
    loss = error + 1e-4 * lp.wiring_cost(model)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:3}: loss {error.item():.3f}, mean wire length {lp.mean_wire_length(model).item():.3f}")

model.eval()
x = torch.randn(500, 20)
maps = model[:5](x).detach()
print(f"spatial variance {lp.analysis.spatial_variance(maps, sheet).nanmean().item():.2f} spacings²")

plain = lp.fold(model)  # torch.nn.Linear where the locality layer was
print(f"folded: outputs differ by at most {(plain(x) - model(x)).abs().max().item():.1e}")
