"""The ways in which the fused engine can be made to run."""

import pytest

from penaltyscope import _norm, _scalar
from penaltyscope._fused import _blocks, _function, _groups, _orthogonality, _size, _walk


@pytest.fixture(params=["at once", "in blocks", "on a device"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One block, or many; or as where no number can be read, which needs no such device."""
    if request.param == "in blocks":
        monkeypatch.setattr(_blocks, "_ELEMENTS", 8)
        monkeypatch.setattr(_orthogonality, "_WIDE", 2)
        monkeypatch.setattr(_size, "LONGEST", 2)
    if request.param == "on a device":
        modules = _scalar, _norm, _blocks, _function, _groups, _orthogonality, _size, _walk
        for module in modules:
            monkeypatch.setattr(module, "on_host", lambda _: False)
    way: str = request.param
    return way
