import pickle

import pytest

from penaltyscope.errors import NonFiniteError, PenaltyscopeError


def test_a_finding_is_a_value_error_of_ours() -> None:
    assert issubclass(NonFiniteError, ValueError)
    assert issubclass(NonFiniteError, PenaltyscopeError)


@pytest.mark.parametrize(("kind", "found"), [("nan", "NaN"), ("inf", "an infinity")])
def test_a_finding_survives_pickling(kind: str, found: str) -> None:
    error = pickle.loads(pickle.dumps(NonFiniteError(kind, "logits")))  # type: ignore[arg-type]
    assert (error.kind, error.name) == (kind, "logits")
    assert str(error) == f"logits must be finite, got {found}."
