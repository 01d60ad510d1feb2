r"""Your own data and your own network in a study, from one file and flags alone.

    locality-prior study --task examples/own_study.py:images --model examples/own_study.py:net:width=256 \
        --place sheet1=16x16 sheet2=16x16 --local fc1=8x8,16x16 fc2=16x16 \
        --cost flat linear@2 --shuffled linear@2 --seeds 1 2 \
        --lr 0.02 --momentum 0.9 --epochs 30 --out results/own

The page is results/own/report.html. ``--place`` says whose activations are looked at and where their units lie;
``--local`` says which layers get the wiring cost, from which sheet to which. ``flat`` is the control, ``linear@2`` is a
linear cost whose wires end at distance 2, and ``--shuffled`` trains its null, in which each unit has as many wires
at the same costs, but they come from units drawn at random.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

from locality_prior.runs import Task


def images(n_test: int = 500) -> Task:
    """The task: 1,797 images of 8×8 pixels that come with scikit-learn, and the digit that each shows."""
    found = load_digits()
    x, y = found.data.astype(np.float32) / 16, found.target
    return Task.classification(train=(x[:-n_test], y[:-n_test]), test=(x[-n_test:], y[-n_test:]), name="images")


def net(width: int = 256) -> nn.Module:
    """The network: plain PyTorch. Its modules have names, so that flags can say where their units lie."""
    modules: dict[str, nn.Module] = {
        "fc1": nn.Linear(64, width),
        "norm1": nn.BatchNorm1d(width),
        "sheet1": nn.ReLU(),
        "fc2": nn.Linear(width, width),
        "norm2": nn.BatchNorm1d(width),
        "sheet2": nn.ReLU(),
        "head": nn.Linear(width, 10),
    }
    return nn.Sequential(OrderedDict(modules))
