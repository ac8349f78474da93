"""The plain ASGI application that serves every function: what `tallybook serve` runs under uvicorn.

It finds a handler by the request's path and method and calls it; all else is the handler's
business. Beside the functions it answers what operating a service takes: liveness, readiness,
version, status, metrics.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tallybook import __version__, exact, metrics, refusal
from tallybook.endpoint import preface, problem
from tallybook.http import AsgiRequest, Handler, Receive, Response, Scope, Send, headers_of
from tallybook.openapi import describe
from tallybook.paths import PARAMETERS_KEY, Paths
from tallybook.refusal import Refusal
from tallybook.route import SERVICE, Route
from tallybook.runtime import SCOPE_KEY, Runtime
from tallybook.tenant_metrics import TenantMetrics


def find_functions(root: Path) -> Iterator[Handler]:
    """The handlers of `root`/functions/*/main.py, in the order of the folders' names.

    A folder may hold several: functions/coupons/main.py has `verify`, served as coupons/verify.
    """
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    for main in sorted(root.glob("functions/*/main.py")):
        module = importlib.import_module(f"functions.{main.parent.name}.main")
        yield from (thing for thing in vars(module).values() if hasattr(thing, "route"))


class Application:
    """Serves every function at all of its paths."""

    def __init__(self, runtime: Runtime, root: Path) -> None:
        self.runtime = runtime
        self._tenant_metrics = TenantMetrics(runtime.settings)
        # Most requests POST to a path that is written out: one look-up finds those.
        self._posts: dict[str, Handler] = {}
        self._paths: Paths[Handler] = Paths()
        found: list[Route] = []
        for handler in find_functions(root):
            route: Route = handler.route  # type: ignore[attr-defined]
            found.append(route)
            for address in route.addresses:
                self._paths.add(address, handler)
                if address.method == "POST" and not address.parameters:
                    self._posts[address.template] = handler
        self._openapi = exact.encode(describe(found))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            response = await self.answer(scope, receive)
            await response(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive) -> Response:
        """The response to one request."""
        path = template = scope["path"]
        handler = self._posts.get(path) if scope["method"] == "POST" else None
        if handler is None:
            found = self._paths.find(path)
            if found is None:
                return await self._operations(scope)
            place, scope[PARAMETERS_KEY] = found
            template = place.template
            handler = place.by_method.get(scope["method"])
        scope[SCOPE_KEY] = self.runtime
        began = time.perf_counter()
        if handler is not None:
            response = await handler(AsgiRequest(scope, receive))
        else:
            response = self._no_such_method(scope, place.allowed)
        # Never the path itself: clients could make any number of them.
        metrics.observe(template, response.status, time.perf_counter() - began)
        return response

    def _no_such_method(self, scope: Scope, allowed: tuple[str, ...]) -> Response:
        """To a preflight, that anything may be tried; else, what may be."""
        request_id, extra = preface(headers_of(scope), self.runtime)
        if scope["method"] == "OPTIONS":
            return Response(204, headers=extra)
        refused = refusal.method_not_allowed(allowed)
        return problem(refused, scope["path"], request_id, extra)

    async def _operations(self, scope: Scope) -> Response:
        path = scope["path"]
        try:
            return await self._operation(scope, path)
        except Refusal as refused:
            return problem(refused, path, *preface(headers_of(scope), self.runtime))

    async def _operation(self, scope: Scope, path: str) -> Response:
        if path in ("/livez", "/health"):
            return _json(200, {"status": "ok"})
        if path == "/readyz":
            return await self._ready()
        if path == "/version":
            return _json(200, {"name": "tallybook", "version": __version__})
        if path == "/metrics":
            return await self._metrics(headers_of(scope))
        if path == "/openapi.json":
            return Response(200, self._openapi)
        if path == "/api/v1/system/status":
            return await self._status()
        raise refusal.not_found()

    async def _metrics(self, headers: Mapping[str, str]) -> Response:
        """To everybody what this process does; what tenants have, to programs alone."""
        text = metrics.text()
        if "authorization" in headers or "apikey" in headers:
            caller = await self.runtime.verifier.verify(headers)
            if caller.role in SERVICE:
                text += await self._tenant_metrics.text(self.runtime.database)
        return Response(200, text, metrics.MEDIA_TYPE)

    async def _ready(self) -> Response:
        """Ready means: keys to check tokens with, and a database that has this version's schema."""
        if not await self.runtime.verifier.load():
            raise refusal.unavailable("The keys to verify tokens with cannot be had.")
        answer = await self.runtime.database.call("readiness", {})
        if not __version__.startswith(f"{answer['schema']}."):
            raise refusal.unavailable(f"The schema is {answer['schema']}, not {__version__}.")
        return _json(200, {"status": "ready", **answer})

    async def _status(self) -> Response:
        """What an operator's script asks after an upgrade; raises when the database is away."""
        schema = (await self.runtime.database.call("readiness", {}))["schema"]
        enabled = self.runtime.settings.credit_system_enabled
        return _json(
            200,
            {
                "status": "healthy",
                "version": __version__,
                "database": "ok",
                "schema": schema,
                "credits": "enabled" if enabled else "disabled",
                "time": datetime.now(UTC),
            },
        )

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.runtime.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _json(status: int, body: Mapping[str, Any]) -> Response:
    return Response(status, exact.encode(body))
