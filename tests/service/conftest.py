import pytest

import penaltyscope_service.app  # noqa: F401  # defines them all
from penaltyscope_service.kernel import compile_kernels


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """As the service does before it listens: no test waits for a compiler."""
    compile_kernels()
