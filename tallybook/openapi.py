"""The API in OpenAPI 3.1, made from the routes: what is served is what is described."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from tallybook import __version__, session
from tallybook.attestation import examiner
from tallybook.paths import Address
from tallybook.route import SERVICE, USERS, Route

_SECURITY: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "apikey": {"type": "apiKey", "in": "header", "name": "apikey"},
    "session": {"type": "apiKey", "in": "cookie", "name": session.COOKIE},
}
# docs/attestation.md says what a device puts into them.
_EVIDENCE: Final = {
    examiner.CHALLENGE_HEADER: "What the server asked, from attestation/challenge",
    examiner.KEY_HEADER: "iOS: the key's id",
    examiner.TOKEN_HEADER: "iOS: the assertion; Android: the Play Integrity token",
    examiner.UNSUPPORTED_HEADER: "That this device cannot attest",
}


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """An OpenAPI document of these routes."""
    references, components = msgspec.json.schema_components(
        [route.body for route in routes], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for route, reference in zip(routes, references, strict=True):
        schema = components[reference["$ref"].rpartition("/")[2]]
        for address in route.addresses:
            described = _operation(route, address, schema)
            if address.method == "POST":
                content = {"application/json": {"schema": _left(address, reference, schema)}}
                described["requestBody"] = {"required": True, "content": content}
            paths.setdefault(address.template, {})[address.method.lower()] = described
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Tallybook", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }
    _say_numbers(document)
    return document


def _operation(route: Route, address: Address, schema: dict[str, Any]) -> dict[str, Any]:
    answers = {str(route.status): "Done"}
    if route.key is not None:
        before = "Done before: the first answer again, with Idempotent-Replayed"
        answers["200"] = before if route.status != 200 else f"Done. {before}"
    return {
        "operationId": _identifier(route, address),
        "summary": route.body.__doc__,
        "parameters": _fields(address, schema) + _headers(route),
        "security": _security(route, address),
        "responses": {
            **{status: {"description": words} for status, words in answers.items()},
            "default": {
                "description": "Refused",
                "content": {"application/problem+json": {"schema": {"type": "object"}}},
            },
        },
    }


def _identifier(route: Route, address: Address) -> str:
    """Of its own for every address: the route's name at the first, elsewhere what it looks like."""
    if address == route.addresses[0]:
        return route.name
    words = address.template.strip("/").replace("{", "by_")
    method = "" if address.method == "POST" else f"{address.method.lower()}_"
    return method + re.sub(r"\W+", "_", words).strip("_")


def _security(route: Route, address: Address) -> list[dict[str, Any]]:
    ways: list[dict[str, Any]] = [{"bearer": []}]
    if SERVICE & route.callers:
        ways.append({"apikey": []})
    if address.method == "GET" and USERS & route.callers:
        ways.append({"session": []})
    if route.open:
        ways.append({})
    return ways


def _fields(address: Address, schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The body's fields that the address says: those in its path, or all of them."""
    described = []
    for name, field in schema["properties"].items():
        in_path = name in address.parameters
        if in_path or address.method != "POST":
            described.append(
                {
                    "name": name,
                    "in": "path" if in_path else "query",
                    "required": in_path or name in schema.get("required", ()),
                    "schema": field,
                }
            )
    return described


def _left(address: Address, reference: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The body without what the path says."""
    if not address.parameters:
        return reference
    fields = {n: field for n, field in schema["properties"].items() if n not in address.parameters}
    required = [name for name in schema.get("required", ()) if name in fields]
    return {**schema, "properties": fields, "required": required}


def _headers(route: Route) -> list[dict[str, Any]]:
    """The headers that this route listens to, beside the credentials."""
    headers = dict(_EVIDENCE) if route.attested else {}
    if route.key is not None:
        headers["Idempotency-Key"] = f"May stand in for the body's `{route.sent_as[route.key]}`"
    return [
        {"name": name, "in": "header", "description": words, "schema": {"type": "string"}}
        for name, words in headers.items()
    ]


def _say_numbers(value: Any) -> None:
    """A Decimal is a number here, in schemas too, where msgspec would have a text."""
    if isinstance(value, list):
        for child in value:
            _say_numbers(child)
    elif isinstance(value, dict):
        for child in value.values():
            _say_numbers(child)
        if value.get("type") == "string" and value.get("format") == "decimal":
            value["type"] = "number"
            del value["format"]
            if isinstance(value.get("default"), str):
                value["default"] = Decimal(value["default"])
