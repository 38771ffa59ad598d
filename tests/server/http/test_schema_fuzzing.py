"""Requests that are generated from the server's own OpenAPI schema."""

from collections import Counter
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from tests.support.server import Server

Case = schemathesis.Case[Any]

pytestmark = [pytest.mark.e2e, pytest.mark.time_limit(600)]

EXAMPLES = 40
"""Number of requests for each operation of the API."""


def check(cases: SearchStrategy[Case], key: str, statuses: Counter[int]) -> None:
    """Send generated requests, count the statuses of the responses, and check that none is 5xx."""

    @hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=cases)
    def send(case: Case) -> None:
        response = case.call(headers={"Authorization": f"Bearer {key}"})
        statuses[response.status_code] += 1
        assert response.status_code < 500, (case, response.text)

    send()


def test_generated_requests_never_fail(server: Server, ada: str) -> None:
    """Valid and invalid requests for every operation of the schema are answered without a status
    of 5xx."""
    schema = schemathesis.openapi.from_url(f"{server.url}/schema/openapi.json")
    statuses: Counter[int] = Counter()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if operation.path.startswith("/health"):
            continue  # reports 503 until the models are loaded
        modes = [GenerationMode.POSITIVE]
        if operation.body:
            modes.append(GenerationMode.NEGATIVE)
        for mode in modes:
            check(operation.as_strategy(generation_mode=mode), ada, statuses)
    print(dict(sorted(statuses.items())))
    assert statuses[400] > 0
