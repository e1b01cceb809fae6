"""/openapi.json, taken at its word: whatever it says of each operation holds, for good and for bad data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.failures import FailureGroup
from schemathesis.generation.modes import GenerationMode
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi import checks as openapi_checks

from benchmarks.service_process import Running, running

KEY, ADMIN_KEY = "a-key-for-the-tests-1234", "an-admin-key-for-the-tests-1234"


def no_server_error(context: Any, response: Any, case: schemathesis.Case) -> None:
    """Not even 503; but a client that wants its answer within 1e-300 s gets what it asked for."""
    assert response.status_code < 500 or (response.status_code == 504 and "x-request-timeout" in case.headers)


def refuses_bad_data(context: Any, response: Any, case: schemathesis.Case) -> None:
    """But what is wrong with an item, where the request asks for that, is told in the item's place."""
    by_item = isinstance(case.body, dict) and case.body.get("on_error") == "item"
    if not (by_item and response.status_code == 200 and '"error' in response.text):
        openapi_checks.negative_data_rejection(context, response, case)


CHECKS = [
    no_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.allow_header_conformance,
    refuses_bad_data,
]
EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@pytest.fixture(scope="module")
def guarded(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("schema")
    keys = {"api_keys": KEY, "admin_key": ADMIN_KEY}
    with running(folder, bundle_path, timeout_s="300", label_sets=str(folder / "sets"), **keys) as service:
        yield service


@pytest.fixture(scope="module")
def schema(guarded: Running) -> BaseSchema:
    schema = schemathesis.openapi.from_url(f"{guarded.url}/openapi.json", headers={"x-api-key": KEY})
    schema.config.generation.update(with_security_parameters=False)  # made-up keys would keep it at the door
    return schema


def operations(schema: BaseSchema) -> list[APIOperation]:
    return [result.ok() for result in schema.get_all_operations()]


def sent(operation: APIOperation, mode: GenerationMode, limits: settings, headers: dict[str, str]) -> set[int]:
    """Send generated requests, hold the answers against the schema, and give their statuses."""
    statuses = set()

    @limits
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: schemathesis.Case) -> None:
        statuses.add(case.call_and_validate(checks=CHECKS, headers=headers).status_code)

    holds()
    return statuses


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_operation_is_as_described(schema: BaseSchema, mode: GenerationMode) -> None:
    assert len(operations(schema)) > 5
    failures = []
    for operation in operations(schema):
        key = ADMIN_KEY if operation.path.startswith("/admin") else KEY
        try:
            sent(operation, mode, EXAMPLES, {"x-api-key": key})
        except Unsatisfiable:
            assert mode.is_negative  # there is nothing to get wrong
        except (Exception, FailureGroup) as error:
            failures.append(f"{operation.label}: {error}")
    assert not failures, "\n\n".join(failures)


def test_without_a_key(schema: BaseSchema) -> None:
    for operation in operations(schema):
        statuses = sent(operation, GenerationMode.POSITIVE, settings(EXAMPLES, max_examples=2), {"x-api-key": "wrong"})
        assert operation.path.startswith("/health") or statuses == {401}, operation.label
