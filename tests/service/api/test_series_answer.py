import json

import numpy as np

from penaltyscope_service.api._models import Series as Model
from penaltyscope_service.api._series_answer import write_series
from penaltyscope_service.summary import Line, NonfiniteStep, Series
from tests.service.steps import INF, NAN


def line(term: str, *value: float) -> Line:
    step = np.arange(2 * len(value))[::2]
    return Line(term=term, quantity="value", step=step, value=np.array(value))


def test_an_answer_is_what_its_model_says() -> None:
    series = Series(
        run="räksmörgås\n",
        pipeline="p",
        rank=3,
        first_step=0,
        last_step=None,
        steps=5,
        series=(line("a", 0.1, -0.0, 1e300, 5e-324), line("b", NAN, INF, -INF, 1.5), line("c")),
        nonfinite=(NonfiniteStep(step=2, term="b", stage="value", kind="nan"),),
        nonfinite_steps=1,
    )
    expected = Model.model_validate(series).model_dump_json()
    assert json.loads(write_series(series)) == json.loads(expected)
    assert json.loads(expected)["series"][1]["value"] == ["NaN", "Infinity", "-Infinity", 1.5]
