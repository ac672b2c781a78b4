"""What holds for every test: no network, no files of the user's, one thread per worker, no GPU test without
a GPU.
"""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


HOME = "KEYVALISE_HOME"


def pytest_configure(config: pytest.Config) -> None:
    """A worker among several takes one core; alone, torch may take all. Each has its own folder of assets."""
    os.environ[HOME] = tempfile.mkdtemp(prefix="keyvalise-test-")
    if "PYTEST_XDIST_WORKER" in os.environ:
        import torch

        torch.set_num_threads(1)


def pytest_unconfigure() -> None:
    """The folder of assets goes with the run."""
    shutil.rmtree(os.environ.pop(HOME, ""), ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a device that is not there."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
