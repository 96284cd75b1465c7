"""The published contract, fuzzed: whatever a client sends, it is never an error of ours, and answers are as the schema says."""

import logging
from contextlib import suppress
from http import HTTPStatus

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from tests.findings.examples import result
from tests.service.world import Audits, backend, opened, serving

logging.getLogger("httpx").setLevel(logging.WARNING)


@pytest.fixture(scope="module")
def contract(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contract")
    (folder / "secret").write_text("s3cret\n")
    with opened(folder) as store:
        store.save(conclude(result(), default_policy()))
        with serving(backend(store, Audits(store)), webhook_secret_file=str(folder / "secret")) as (web, _):
            document = web.get("/v1/openapi.json").json()
            for operation in (each for path in document["paths"].values() for each in path.values()):
                operation.pop("security", None)  # on loopback nobody needs a token
            yield schemathesis.openapi.from_dict(document), str(web.base_url).rstrip("/")


FEW = settings(
    max_examples=8, deadline=None, derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
def test_no_input_breaks_the_service(contract, mode):
    """No 5xx; status codes, media types and bodies as documented, for what is right and for what is wrong."""
    described, url = contract
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 10
    for operation in operations:
        try:
            cases = operation.as_strategy(generation_mode=mode)
        except Unsatisfiable:
            continue

        @FEW
        @given(case=cases)
        def holds(case):
            answer = case.call_and_validate(base_url=url, timeout=20)
            assert answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR

        with suppress(Unsatisfiable):  # nothing can be wrong about a route without parameters
            holds()


def test_the_contract_is_openapi_3_1(contract):
    """Of this version of the API."""
    document = contract[0].raw_schema
    assert document["openapi"].startswith("3.1.")
    assert all(path.startswith("/v1/") for path in document["paths"])
    assert {"/v1/runs", "/v1/models", "/v1/findings"} <= document["paths"].keys()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
