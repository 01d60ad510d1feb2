"""One thread and one seed for every test. The files that take longest come first, so that no worker ends with one."""

from __future__ import annotations

import pytest
import torch
from tiny import write_mnist

torch.set_num_threads(1)

LONGEST = (
    "test_parallel",
    "test_cli",
    "test_cli_output",
    "test_study",
    "test_runs",
    "test_localize",
    "test_bench",
    "test_report",
    "test_sparse",
    "test_layer_hazards",
    "test_pruning",
    "test_kinds",
)


def pytest_configure(config: pytest.Config) -> None:
    # every test passes without a compiler too
    config.addinivalue_line("filterwarnings", "ignore:no C compiler:RuntimeWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a few images in MNIST's own format."""
    return str(write_mnist(tmp_path_factory.mktemp("data")))
