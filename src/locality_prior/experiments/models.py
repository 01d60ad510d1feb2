"""The networks of the experiments: each has a locality layer between two sheets of units."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locality_prior import cost as costs
from locality_prior import layers
from locality_prior.cost import Cost
from locality_prior.experiments import config
from locality_prior.experiments.config import Run
from locality_prior.geometry import Geometry, Grid, Shuffled
from locality_prior.layers import LocalityLinear
from locality_prior.retrofit import plan


class Network(nn.Module):
    """Logits for images, through the activations before and after its layer ``locality``."""

    locality: LocalityLinear
    #: Where the units before and after the layer are, whatever its wires are taken to be.
    places: tuple[Geometry, Geometry]

    @abstractmethod
    def before(self, x: Tensor) -> Tensor:
        """Activations (n, in) of the layer's input for images (n, channels, height, width)."""

    @abstractmethod
    def after(self, before: Tensor) -> Tensor:
        """Activations (n, out) of the layer's output for those of its input."""

    @abstractmethod
    def head(self, after: Tensor) -> Tensor:
        """Logits (n, classes) for activations of the layer's output."""

    def sheets(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Activations of the layer's input and output for images."""
        before = self.before(x)
        return before, self.after(before)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes)."""
        return self.head(self.after(self.before(x)))


class LeNet(Network):
    """LeNet with one more fully connected layer and BatchNorm before the last, as the source document trains it.

    conv 10@5×5, max-pool 2, ReLU, conv 20@5×5, Dropout2d, max-pool 2, ReLU, dropout, linear 320 → K, ReLU (*the
    locality input*), dropout, locality K → K, BatchNorm, ReLU (*the locality output*), linear K → 10.

    Args:
        cost: the locality layer's; ``Flat()`` makes it a plain Linear, the control.
        sheet: places of the K units before and after it.
        shuffle: the seed that the rows of P are shuffled by; None: they are not.
    """

    def __init__(self, cost: Cost, sheet: Grid, shuffle: int | None = None) -> None:
        super().__init__()
        units = len(sheet)
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.dropout2d = nn.Dropout2d()
        self.fc1 = nn.Linear(320, units)
        self.places = sheet, sheet
        source, target = _lengths(self.places, shuffle)
        self.locality = LocalityLinear(units, units, source=source, target=target, cost=cost)
        self.norm = nn.BatchNorm1d(units)
        self.fc2 = nn.Linear(units, 10)

    def before(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.dropout2d(self.conv2(x)), 2))
        x = F.dropout(torch.flatten(x, 1), training=self.training)
        return F.relu(self.fc1(x))

    def after(self, before: Tensor) -> Tensor:
        return F.relu(self.norm(self.locality(F.dropout(before, training=self.training))))

    def head(self, after: Tensor) -> Tensor:
        logits: Tensor = self.fc2(after)
        return logits


class AlexNet(Network):
    """torchvision's AlexNet with one of its fully connected layers a locality layer, and BatchNorm after that.

    Args:
        cost: the locality layer's; ``Flat()`` makes it a plain Linear, the control.
        sheet: places of the units of the two hidden layers.
        classes: how many logits.
        layer: "fc7", from sheet to sheet (``classifier.4``; what the source document's authors call FC6), or "fc6",
            from the 6×6 places of the last convolution's channels to the sheet (``classifier.1``).
        width: of the convolutions, as a share of AlexNet's 64, 192, 384, 256 and 256 channels.
        stride: of the first convolution.
        shuffle: the seed that the rows of P are shuffled by; None: they are not.
    """

    def __init__(
        self,
        cost: Cost,
        sheet: Grid,
        classes: int,
        layer: config.Layer = "fc7",
        width: float = 1.0,
        stride: int = 4,
        shuffle: int | None = None,
    ) -> None:
        super().__init__()
        from torchvision.models import alexnet

        with torch.device("meta"):
            plain = alexnet(num_classes=classes)
        channels, units = 3, len(sheet)
        for k, part in enumerate(plain.features):
            if isinstance(part, nn.Conv2d):
                wide = max(1, round(part.out_channels * width))
                side, edge = part.kernel_size[0], int(part.padding[0])
                plain.features[k] = nn.Conv2d(channels, wide, side, stride if k == 0 else 1, edge)
                channels = wide
        places = Grid(6, 6).with_channels(channels)
        sizes = {1: (len(places), units), 4: (units, units), 6: (units, classes)}
        for k, (features, out) in sizes.items():
            plain.classifier[k] = nn.Linear(features, out)
        self.at = 1 if layer == "fc6" else 4
        self.features, self.avgpool, self.classifier = plain.features, plain.avgpool, plain.classifier
        self.places = (places if layer == "fc6" else sheet), sheet
        plan(self, {f"classifier.{self.at}": _lengths(self.places, shuffle)}, cost=cost, norm=True).apply()
        # W as nn.Linear draws it, and not V: the same W under every cost, whatever of it is on wires
        local = self.locality
        local.load_state_dict(nn.Linear(local.in_features, local.out_features).state_dict())

    @property
    def locality(self) -> LocalityLinear:  # type: ignore[override]
        layer = self.classifier[self.at][0]
        assert isinstance(layer, LocalityLinear)
        return layer

    def before(self, x: Tensor) -> Tensor:
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        # dropout comes after what is seen of the sheet, as in LeNet
        return self._through(x, 0, self.at - 1)

    def after(self, before: Tensor) -> Tensor:
        return self._through(before, self.at - 1, self.at + 2)

    def head(self, after: Tensor) -> Tensor:
        return self._through(after, self.at + 2, len(self.classifier))

    def _through(self, x: Tensor, start: int, stop: int) -> Tensor:
        for part in list(self.classifier)[start:stop]:
            x = part(x)
        return x


def _lengths(places: tuple[Geometry, Geometry], shuffle: int | None) -> tuple[Geometry, Geometry]:
    """What a layer's wires are measured by: where its units are, or the null of that."""
    if shuffle is None:
        return places
    null = Shuffled(places[1], places[0], shuffle)
    return null, null


def network(run: Run, classes: int) -> Network:
    """The network of a run, with the initial weights that its seed gives under every cost."""
    torch.manual_seed(run.seed)
    cost, shuffle = costs.parse(run.cost), run.seed if run.shuffled else None
    made: Network
    if run.alexnet is None:
        made = LeNet(cost, Grid(*run.sheet), shuffle)
    else:
        stride = 4 if run.alexnet.crop >= 128 else 2  # as much of a map is left of a small crop
        made = AlexNet(cost, Grid(*run.sheet), classes, run.alexnet.layer, run.alexnet.width, stride, shuffle)
    return made.to(memory_format=torch.channels_last)


def trained(run: Run, path: Path) -> Network:
    """The network of a finished run, with the weights that ``path`` holds."""
    from safetensors import safe_open

    classes = 10
    if run.alexnet is not None:
        with safe_open(path, framework="pt") as file:
            classes = file.get_slice("classifier.6.weight").get_shape()[0]
    with torch.random.fork_rng(devices=[]):
        made = network(run, classes)
    layers.load(path, made)
    return made
