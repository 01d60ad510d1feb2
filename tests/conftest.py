"""One thread and one seed for every test; the files that take longest first, so that no worker is left with one."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)

LONGEST = (
    "test_cli",
    "test_imagenet",
    "test_experiments",
    "test_localize",
    "test_bench",
    "test_sparse",
    "test_layer_hazards",
    "test_pruning",
    "test_kinds",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
