import pytest
import torch
from torch import Tensor


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
