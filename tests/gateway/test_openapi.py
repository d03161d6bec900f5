"""The OpenAPI document is sound, names what there is, and the server keeps to it whatever it is sent."""

from __future__ import annotations

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from negajoule.engine import FakeEngine
from negajoule.gateway import Door, EngineBackend, KeyFile, KeyRing, standing_page
from negajoule.gateway.batches import Batches, BatchLimits
from negajoule.gateway.dialects import CALLS
from negajoule.gateway.openapi import document, whole_document
from negajoule.gateway.pool import Pool
from negajoule.gateway.pool_plan import PoolPlan
from negajoule.gateway.route_pages import route_pages
from negajoule.gateway.routed import RoutedBackend
from negajoule.ledger.accounts.book import MemoryStore
from negajoule.units import INDICATORS

from .asking import CHAT, ask, chat
from .conftest import gateway

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
)
SCHEMA = schemathesis.openapi.from_dict(whole_document()).exclude(path_regex="^/v1(alpha|beta)/")
SCHEMA.config.generation.update(allow_x00=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One server for all examples, with a key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEGAJOULE_HOME", str(tmp_path_factory.mktemp("home")))
        _, secret = KeyFile().create("all", scopes=["chat", "completions", "embeddings", "models", "admin"])
        routed: list[RoutedBackend] = []

        def backend(splitter, accounts):
            pool = Pool(PoolPlan(models=("fake",)), None, float)
            inner = EngineBackend(FakeEngine(), splitter, accounts)
            routed.append(RoutedBackend(inner, [pool], accounts.metrics))
            return routed[0]

        class _Late:
            """The backend is made when the server starts."""

            def __getattr__(self, name):
                return getattr(routed[0], name)

        with gateway(
            backend,
            door=Door(KeyRing(KeyFile())),
            more_pages=[standing_page(MemoryStore()), *route_pages(_Late())],
            batches=Batches(BatchLimits()),
        ) as running:
            yield running.url, secret


def test_the_document_is_sound():
    validate(json.loads(document()))


def test_every_call_and_page_stands_in_the_document(served):
    batches = {route.path for route in Batches(BatchLimits()).routes()}
    assert batches < set(whole_document()["paths"])
    described = set(whole_document()["paths"]) - batches
    assert set(CALLS) <= described
    gemini = {path for path in described if ":" in path}
    assert len(gemini) == 6
    for path in described - set(CALLS) - gemini - {"/v1/budgets", "/v1/route", "/v1/feedback"}:
        found = ask(served.url, path.replace("{model}", "fake").replace("{id}", "none"))
        assert found.status == 200 or (path == "/v1/footprints/{id}" and found.status == 404), path


def test_it_is_served(served):
    answer = ask(served.url, "/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == whole_document()


def test_the_footprint_in_the_document_is_the_one_in_the_answers(served):
    footprint = whole_document()["components"]["schemas"]["Footprint"]
    got = chat(served.url).json["footprint"]
    assert set(footprint["required"]) <= set(got)
    assert set(INDICATORS) <= set(footprint["properties"])


def checked(case, url: str, key: str, *more) -> None:
    headers = {"authorization": f"Bearer {key}"}
    response = case.call(base_url=url, headers=headers, timeout=30)
    case.validate_response(response, checks=(*CHECKS, *more), headers=headers)


@pytest.mark.slow
@SCHEMA.parametrize()
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_comes_the_server_keeps_to_its_document(case, running):
    checked(case, *running)


@pytest.mark.slow
@SCHEMA.include(method="POST").parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_bodies_for_a_model_that_is_there(case, running):
    if isinstance(case.body, dict):
        case.body["model"] = "fake"
    if "model" in (case.path_parameters or {}):
        case.path_parameters = {"model": "fake"}
    checked(case, *running)


@pytest.mark.slow
@SCHEMA.include(path_regex="^/v1/(chat/)?completions$").parametrize()
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_the_document_forbids_is_refused(case, running):
    checked(case, *running, negative_data_rejection)


def test_the_server_is_well_afterwards(running):
    url, key = running
    assert ask(url, "/v1/chat/completions", body=CHAT, key=key).status == 200
    assert ask(url, "/healthz", key=key).json["energy"]["in_flight_j"] == 0
