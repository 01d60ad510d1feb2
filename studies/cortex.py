"""A stack of sheets on the cortex: the network of studies/cortex.yaml.

The sheets are layers of one patch of the left hemisphere of fsaverage5, around the calcarine sulcus, where the primary
visual cortex is. An image of 28×28 pixels lies on the same patch, one pixel at each vertex.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

import locality_prior as lp

SIDE = 28
CALCARINE = (-8.0, -80.0, 6.0)  # mm, in the space of the MNI


def patch() -> tuple[lp.Geometry, lp.Geometry]:
    """A patch of 28 · 28 vertices, and the same places in the order of an image's pixels, row by row.

    The hemisphere is laid flat around the middle of the patch, by the azimuthal equidistant projection of FreeSurfer's
    sphere. The vertices are those nearest to the middle, measured by the larger of their two coordinates, so that they
    fill a square. Each pixel of the square gets a vertex of its own, so that together they are as near as possible.
    """
    hemisphere = lp.Mesh.fsaverage("left")
    middle = (hemisphere.positions - torch.tensor(CALCARINE, dtype=torch.float64)).norm(dim=1).argmin()
    sphere = nn.functional.normalize(lp.Mesh.fsaverage("left", surface="sphere").positions, dim=1)
    there = sphere[middle]
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    right = nn.functional.normalize(torch.linalg.cross(up, there), dim=0)
    flat = torch.stack([sphere @ right, sphere @ torch.linalg.cross(there, right)], dim=1)
    flat = nn.functional.normalize(flat, dim=1) * torch.atan2(flat.norm(dim=1), sphere @ there)[:, None]
    flat[sphere @ there < 0] = torch.inf  # the far half
    near = flat.abs().amax(1).argsort()[: SIDE**2]
    k = ((torch.arange(SIDE, dtype=torch.float64) + 0.5) / SIDE - 0.5) * 2 * flat[near].abs().max()
    square = torch.cartesian_prod(-k, k).flip(1)  # the first row is at the top
    pixels = torch.as_tensor(linear_sum_assignment(torch.cdist(square, flat[near]))[1])
    here = hemisphere.part(near)
    return here, here.permuted(pixels)


def stack(layers: int = 3, classes: int = 10) -> nn.Module:
    """Each layer is a linear layer, which may be local, BatchNorm and ReLU."""
    here, below = patch()
    units = len(here)
    modules: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    place, local = {}, {}
    for k in range(1, layers + 1):
        modules[f"fc{k}"] = nn.Linear(units, units)
        modules[f"norm{k}"] = nn.BatchNorm1d(units)
        modules[f"layer{k}"] = nn.ReLU()
        place[f"layer{k}"], local[f"fc{k}"], below = here, (below, here), here
    model = nn.Sequential(OrderedDict(modules | {"head": nn.Linear(units, classes)}))
    model.place, model.local = place, local  # type: ignore[assignment]
    return model
