"""The API in OpenAPI 3.1, made from the routes: what is served is what is described."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tallybook import __version__
from tallybook.endpoint import Route

_SECURITY: Final[dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "apikey": {"type": "apiKey", "in": "header", "name": "apikey"},
}


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """An OpenAPI document of these routes."""
    references, components = msgspec.json.schema_components(
        [route.body for route in routes], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for route, reference in zip(routes, references, strict=True):
        for path in (f"/functions/v1/{route.slug}", *route.paths):
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
        answers["200"] = "Done before: the first answer again, with Idempotent-Replayed"
    return {
        "operationId": route.procedure
        if path.endswith(route.slug)
        else path.strip("/").replace("/", "_"),
        "summary": route.body.__doc__,
        "security": [{"bearer": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}},
        "responses": {
            **{status: {"description": words} for status, words in answers.items()},
            "default": {
                "description": "Refused",
                "content": {"application/problem+json": {"schema": {"type": "object"}}},
            },
        },
    }
