"""The API in OpenAPI 3.1, made from the routes: what is served is what is described."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tallybook import __version__
from tallybook.attestation import examiner
from tallybook.route import SERVICE, Route

_SECURITY: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "apikey": {"type": "apiKey", "in": "header", "name": "apikey"},
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
        for path in (route.path, *route.paths):
            paths[path] = {"post": _operation(route, path, reference)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tallybook", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }


def _operation(route: Route, path: str, reference: dict[str, Any]) -> dict[str, Any]:
    answers = {str(route.status): "Done"}
    if route.key is not None:
        before = "Done before: the first answer again, with Idempotent-Replayed"
        answers["200"] = before if route.status != 200 else f"Done. {before}"
    return {
        "operationId": route.name if path == route.path else path.strip("/").replace("/", "_"),
        "summary": route.body.__doc__,
        "parameters": _parameters(route),
        "security": [{"bearer": []}, *([{"apikey": []}] if SERVICE & route.callers else [])],
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}},
        "responses": {
            **{status: {"description": words} for status, words in answers.items()},
            "default": {
                "description": "Refused",
                "content": {"application/problem+json": {"schema": {"type": "object"}}},
            },
        },
    }


def _parameters(route: Route) -> list[dict[str, Any]]:
    """The headers that this route listens to, beside the credentials."""
    headers = dict(_EVIDENCE) if route.attested else {}
    if route.key is not None:
        headers["Idempotency-Key"] = f"May stand in for the body's `{route.key}`"
    return [
        {"name": name, "in": "header", "description": words, "schema": {"type": "string"}}
        for name, words in headers.items()
    ]
