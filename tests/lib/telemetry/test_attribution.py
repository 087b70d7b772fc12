"""What probes find, on its way out."""

import pytest
import torch
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from torch import nn

import penaltyscope as ps
from penaltyscope.attribution import AllParameters, UpdateAlignment
from penaltyscope_events import Event, RunIdentity, encode_events, encode_request, names
from penaltyscope_service.decode import decode_logs


def parts() -> tuple[nn.Module, ps.Pipeline]:
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 2.0)
    terms = [
        ps.Term("down", lambda x: x.sum(), weight=3.0),
        ps.Term("up", lambda x: -x.sum()),
        ps.Term("off", lambda x: x.sum(), enabled=False),
    ]
    return model, ps.Pipeline(terms, name="p")


def test_results_are_sent_as_events() -> None:
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    model, pipeline = parts()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    alignment = UpdateAlignment(pipeline, model, optimizer, every=2)
    everything = AllParameters(pipeline, model, every=3)
    x = torch.ones(1, 1, dtype=torch.float64)
    with ps.watch(pipeline, exporter=exporter, optimizer=optimizer, probes=[alignment, everything]):
        for _ in range(3):
            hidden = alignment.run(lambda: pipeline(model(x), base=model(x).sum() * 2))
            hidden.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    pipeline(model(x)).loss.backward()  # the watch hears no more of it
    records = [
        {k: v for k, v in (r.log_record.attributes or {}).items() if k != names.INCARNATION}
        for r in exporter.get_finished_logs()
        if r.log_record.event_name == names.PIPELINE_ATTRIBUTION
    ]
    common = {
        names.PIPELINE: "p",
        names.TERM_NAMES: ("down", "up", "off"),
        names.TERM_WEIGHT: (3.0, 1.0, 1.0),
        names.ATTRIBUTION_DIRECTION_NORM: 4.0,
        names.ATTRIBUTION_SLOPE: pytest.approx((1.0, -1.0, float("nan")), nan_ok=True),
        names.ATTRIBUTION_PULL: pytest.approx((3.0, -1.0, float("nan")), nan_ok=True),
        names.ATTRIBUTION_SHARE: pytest.approx((0.75, -0.25, float("nan")), nan_ok=True),
        names.ATTRIBUTION_BASE_SHARE: 0.5,
    }
    norms = {names.ATTRIBUTION_GRADIENT_NORM: pytest.approx((1.0, 1.0, float("nan")), nan_ok=True)}
    assert records == [
        common | {names.STEP: 0, names.ATTRIBUTION_METHOD: "all_parameters"} | norms,
        common | {names.STEP: 0, names.ATTRIBUTION_METHOD: "alignment"},
        common | {names.STEP: 2, names.ATTRIBUTION_METHOD: "alignment"},
    ]


def test_a_probe_of_another_pipeline_is_refused() -> None:
    model, pipeline = parts()
    probe = AllParameters(pipeline, model)
    with pytest.raises(ValueError, match=r"probes must be of the pipelines \['pipeline'\]"):
        ps.watch(ps.Pipeline([ps.Term("l2", ps.l2)]), probes=[probe])


def test_the_service_takes_the_event_and_counts_it() -> None:
    event = Event(
        name=names.PIPELINE_ATTRIBUTION,
        time_ns=1,
        attributes={names.PIPELINE: "p", names.ATTRIBUTION_SHARE: (0.5, float("nan"))},
    )
    body = encode_request(RunIdentity(run_id="r"), [encode_events([event])])
    decoded = decode_logs(body, "application/x-protobuf")
    assert (decoded.received, decoded.refused) == ({"other": 1}, {})
