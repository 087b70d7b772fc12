"""The whole HTTP surface against its own OpenAPI document, by schemathesis.

Whatever the document allows is answered as the document says, and what it does not allow is
refused; nothing is ever answered 500.
"""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import positive_data_acceptance
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation, BaseSchema

from penaltyscope_service.ingest._signal import SIGNALS
from tests.service.blocks import make_block, make_request
from tests.service.process import Service, serve

EXAMPLES = 25
"""Of every operation; enough for each parameter to take its odd values."""

Operation = APIOperation[Any, Any, Any, Any]
Request = Case[Operation]
Check = Callable[[Request], object]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serve(tmp_path_factory.mktemp("document")) as service:
        for run in ("r", "a/b", "0"):
            httpx.post(
                f"{service.url}/v1/logs",
                content=make_request(make_block(steps=20), run=run),
                headers={"content-type": "application/x-protobuf"},
            ).raise_for_status()
        yield service


@pytest.fixture(scope="module")
def document(service: Service) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


def operations(document: BaseSchema) -> Iterator[Operation]:
    for result in document.get_all_operations():
        assert isinstance(result, Ok)
        yield result.ok()


def try_out(
    operation: Operation, check: Check, mode: GenerationMode = GenerationMode.POSITIVE
) -> None:
    """Calls ``check`` with requests that the document allows, or does not."""

    @given(case=operation.as_strategy(mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def run(case: Request) -> None:
        check(case)

    run()


@pytest.mark.parametrize("path", SIGNALS)
def test_otlp_that_the_document_allows_is_answered_as_it_says(
    document: BaseSchema, path: str
) -> None:
    def check(case: Request) -> None:
        # Neither a compressed body nor a binary one can be made from a schema.
        case.headers.pop("Content-Encoding", None)
        binary = case.media_type != "application/json"
        case.call_and_validate(excluded_checks=[positive_data_acceptance] if binary else [])

    try_out(document[path]["POST"], check)


def test_whatever_else_the_document_allows_is_answered_as_it_says(document: BaseSchema) -> None:
    others = [operation for operation in operations(document) if operation.path not in SIGNALS]
    assert len(others) >= 6

    for operation in others:
        try_out(operation, Case.call_and_validate)


def test_a_query_that_the_document_does_not_allow_is_refused(document: BaseSchema) -> None:
    with_query = [operation for operation in operations(document) if operation.query]
    assert with_query

    for operation in with_query:
        try_out(operation, Case.call_and_validate, GenerationMode.NEGATIVE)
