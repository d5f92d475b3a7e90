"""The document says what the service does: every route, every limit, valid OpenAPI 3.1."""

import json
import re

import msgspec
import pytest
from openapi_spec_validator import validate

from rockets.domain.messages import PAYLOAD_TYPES, SPEED_MAX, decode_message
from rockets.web.openapi import EXAMPLES, OMITTING, document, examples
from rockets.web.problems import Problem
from rockets.web.routes import HEADERS, ROUTES
from tests.web.apps import running_app

DOCUMENT = document()
SCHEMAS = DOCUMENT["components"]["schemas"]


async def test_the_table_names_every_route_of_the_application_and_no_other() -> None:
    async with running_app() as client:
        mounted = {
            (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
            for rule in client.app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }

    assert {(route.method, route.path) for route in ROUTES} == mounted
    assert len(ROUTES) == len(mounted), "a route stands in the table twice"


def test_the_document_is_valid_openapi() -> None:
    validate(DOCUMENT)


def test_every_reference_leads_to_a_schema_and_every_schema_is_referred_to() -> None:
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))

    assert named == set(SCHEMAS) - {"Metadata"}, "metadata stands inside each form of a message"


def test_no_name_of_an_operation_is_given_twice() -> None:
    names = [
        operation["operationId"]
        for path in DOCUMENT["paths"].values()
        for operation in path.values()
    ]

    assert len(set(names)) == len(names) == len(ROUTES)


def test_limits_are_those_of_the_types() -> None:
    assert SCHEMAS["RocketLaunched"]["properties"]["launchSpeed"] == {
        "description": f"an integer from 0 to {SPEED_MAX}",
        "type": "integer",
        "minimum": 0,
        "maximum": SPEED_MAX,
    }


@pytest.mark.parametrize("name", PAYLOAD_TYPES)
def test_the_message_type_decides_the_form_of_the_message(name: str) -> None:
    form = SCHEMAS[f"{name}Message"]["properties"]

    assert form["metadata"]["properties"]["messageType"] == {"const": name}
    assert form["message"] == {"$ref": f"#/components/schemas/{name}"}


def test_any_other_message_type_has_the_open_form() -> None:
    form = SCHEMAS["OtherMessage"]["properties"]

    assert form["metadata"]["properties"]["messageType"]["not"] == {"enum": list(PAYLOAD_TYPES)}
    assert form["message"] == {"type": "object"}


def test_the_members_of_an_answer_that_are_always_there_are_required() -> None:
    assert set(SCHEMAS["Rocket"]["required"]) == set(SCHEMAS["Rocket"]["properties"])
    assert "errors" not in SCHEMAS["Problem"]["required"]
    assert set(OMITTING) <= set(SCHEMAS)
    assert Problem.__struct_config__.omit_defaults


def test_every_example_is_a_message_that_is_taken() -> None:
    assert set(PAYLOAD_TYPES) < set(EXAMPLES)
    for name, example in examples().items():
        assert decode_message(msgspec.json.encode(example)).message_type == name


@pytest.mark.parametrize("header", HEADERS)
def test_every_header_of_the_table_is_described_where_it_is_sent(header: str) -> None:
    assert f'"{header}"' in json.dumps(DOCUMENT["paths"])


async def test_the_document_is_served_and_a_client_that_holds_it_gets_304() -> None:
    async with running_app() as client:
        first = await client.get("/openapi.json")
        again = await client.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})

        assert await first.get_json() == json.loads(json.dumps(DOCUMENT))
        assert (again.status_code, await again.get_data()) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
