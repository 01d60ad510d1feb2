"""The networks of the experiments."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locality_prior.cost import Cost
from locality_prior.geometry import Grid
from locality_prior.layers import LocalityLinear


class LeNet(nn.Module):
    """LeNet with one more fully connected layer and BatchNorm before the last, as the source document trains it.

    conv 10@5×5, max-pool 2, ReLU, conv 20@5×5, Dropout2d, max-pool 2, ReLU, dropout, linear 320 → K, ReLU (*the
    locality input*), dropout, locality K → K, BatchNorm, ReLU (*the locality output*), linear K → 10.

    Args:
        cost: the locality layer's; ``Flat()`` makes it a plain Linear, the control.
        sheet: places of the K units before and after it.
    """

    def __init__(self, cost: Cost, sheet: Grid) -> None:
        super().__init__()
        units = len(sheet)
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.dropout2d = nn.Dropout2d()
        self.fc1 = nn.Linear(320, units)
        self.locality = LocalityLinear(units, units, source=sheet, target=sheet, cost=cost)
        self.norm = nn.BatchNorm1d(units)
        self.fc2 = nn.Linear(units, 10)

    def sheets(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activations (n, K) of the layer's input and output for images (n, 1, 28, 28)."""
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.dropout2d(self.conv2(x)), 2))
        x = F.dropout(torch.flatten(x, 1), training=self.training)
        before = F.relu(self.fc1(x))
        return before, self.second(before)

    def second(self, before: Tensor) -> Tensor:
        """Activations (n, K) of the layer's output for those of its input."""
        return F.relu(self.norm(self.locality(F.dropout(before, training=self.training))))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 10)."""
        _, after = self.sheets(x)
        logits: Tensor = self.fc2(after)
        return logits
