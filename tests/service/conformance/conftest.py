"""One service for all rules: each is a request of its own run, or of none."""

from collections.abc import Iterator

import httpx
import pytest

from tests.service.process import Service, serve


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serve(
        tmp_path_factory.mktemp("conformance"),
        *("--grpc", "--grpc-port", "0", "--max-body-bytes", "100000", "--queue-bytes", "1"),
    ) as service:
        yield service


@pytest.fixture(scope="package")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client
