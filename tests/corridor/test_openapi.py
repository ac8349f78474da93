"""What is served is what is described."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec

from tallybook import exact
from tallybook.body import Body, Key
from tallybook.openapi import describe
from tallybook.route import ANYBODY, SERVICE, USERS, Route
from tallybook.schema import ROOT
from tallybook.server import find_functions

ROUTES = [handler.route for handler in find_functions(ROOT)]  # type: ignore[attr-defined]
PATHS = describe(ROUTES)["paths"]


def test_every_path_of_every_function_is_described() -> None:
    assert set(PATHS) == {each.template for route in ROUTES for each in route.addresses}
    assert {"/functions/v1/coupons/verify", "/api/redeem"} <= set(PATHS)


def test_every_operation_has_an_identifier_of_its_own() -> None:
    names = [each["operationId"] for path in PATHS.values() for each in path.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)
    assert PATHS["/functions/v1/redeem-coupon"]["post"]["operationId"] == "redeem_coupon"


def test_it_says_who_may_come_with_a_key() -> None:
    def keys(path: str) -> bool:
        return {"apikey": []} in PATHS[f"/functions/v1/{path}"]["post"]["security"]

    assert keys("coupons/consume") and keys("validate-points-event")
    assert not keys("redeem-coupon")


def test_it_names_the_headers_that_a_route_listens_to() -> None:
    def headers(path: str) -> set[str]:
        described = PATHS[f"/functions/v1/{path}"]["post"]["parameters"]
        assert {parameter["in"] for parameter in described} <= {"header"}
        return {parameter["name"] for parameter in described}

    assert headers("redeem-coupon") == {"Idempotency-Key"}
    assert {"x-attestation-token", "Idempotency-Key"} <= headers("submit-points-event")
    assert headers("attestation/challenge") == set()


# Methods, templates and amounts


class Page(Body):
    """A page."""

    kind: str
    customer: UUID | None = msgspec.field(name="user_id", default=None)
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 50
    least: Decimal = Decimal("0.5")


class ByCode(Body):
    """One, by its code."""

    code: Key
    reason: str
    idempotency_key: Key | None = None


EVERYBODY = USERS | SERVICE | ANYBODY
DOCUMENT = json.loads(
    exact.encode(
        describe(
            [
                Route(slug="page", procedure="p", body=Page, paths=("GET /v1/things",)),
                Route(
                    slug="open",
                    procedure="p",
                    body=Page,
                    callers=EVERYBODY,
                    open=True,
                    paths=("GET /v1/open", "POST /v1/things"),
                ),
                Route(
                    slug="drop",
                    procedure="p",
                    body=ByCode,
                    key="idempotency_key",
                    paths=("DELETE /v1/things/{code}", "POST /v1/things/{code}/uses"),
                ),
            ]
        )
    )
)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_method_of_a_path_is_described() -> None:
    found = {(path, method) for path, method, _ in operations(DOCUMENT)}
    assert found == {
        *(("/functions/v1/page", "post"), ("/functions/v1/open", "post")),
        *(("/functions/v1/drop", "post"), ("/v1/things", "get"), ("/v1/things", "post")),
        *(("/v1/open", "get"), ("/v1/things/{code}", "delete")),
        ("/v1/things/{code}/uses", "post"),
    }
    names = [operation["operationId"] for _, _, operation in operations(DOCUMENT)]
    assert len(set(names)) == len(names)
    assert {"page", "get_v1_things", "v1_things", "delete_v1_things_by_code"} <= set(names)


def test_a_document_holds_together() -> None:
    for document in (DOCUMENT, json.loads(exact.encode(describe(ROUTES)))):
        for path, method, operation in operations(document):
            parameters = operation["parameters"]
            places = [(each["name"], each["in"]) for each in parameters]
            assert len(set(places)) == len(places), path
            in_path = {each["name"] for each in parameters if each["in"] == "path"}
            assert in_path == set(re.findall(r"\{(\w+)\}", path)), path
            assert all(each["required"] for each in parameters if each["in"] == "path")
            assert all("schema" in each for each in parameters)
            assert ("requestBody" in operation) == (method == "post"), path
            schemes = document["components"]["securitySchemes"]
            assert all(set(way) <= set(schemes) for way in operation["security"])
        written = json.dumps(document)
        for name in re.findall(r'"#/components/schemas/([^"]+)"', written):
            assert name in document["components"]["schemas"]


def test_a_query_is_described_by_the_fields_of_the_body() -> None:
    parameters = {
        each["name"]: each for each in DOCUMENT["paths"]["/v1/things"]["get"]["parameters"]
    }
    assert set(parameters) == {"user_id", "limit", "least", "kind"}
    assert {each["in"] for each in parameters.values()} == {"query"}
    assert {name for name, each in parameters.items() if each["required"]} == {"kind"}
    assert parameters["limit"]["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "default": 50,
    }


def test_an_amount_is_described_as_a_number() -> None:
    schema = DOCUMENT["components"]["schemas"]["Page"]["properties"]["least"]
    assert schema == {"type": "number", "default": 0.5}


def test_what_the_path_says_is_not_asked_for_in_the_body() -> None:
    used = DOCUMENT["paths"]["/v1/things/{code}/uses"]["post"]
    schema = used["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"idempotency_key", "reason"}
    assert schema["required"] == ["reason"]
    drop = DOCUMENT["paths"]["/v1/things/{code}"]["delete"]["parameters"]
    places = {each["name"]: each["in"] for each in drop}
    assert places == {
        "code": "path",
        "idempotency_key": "query",
        "reason": "query",
        "Idempotency-Key": "header",
    }


def test_it_says_where_a_session_or_nothing_will_do() -> None:
    def ways(path: str, method: str) -> list[str]:
        return [
            *(name for way in DOCUMENT["paths"][path][method]["security"] for name in way or "-")
        ]

    assert ways("/v1/things", "get") == ["bearer", "session"]
    assert ways("/functions/v1/page", "post") == ["bearer"]
    assert ways("/v1/open", "get") == ["bearer", "apikey", "session", "-"]
    assert ways("/v1/things", "post") == ["bearer", "apikey", "-"]
    session = DOCUMENT["components"]["securitySchemes"]["session"]
    assert session == {"type": "apiKey", "in": "cookie", "name": "session_token"}
