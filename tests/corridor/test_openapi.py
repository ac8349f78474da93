"""What is served is what is described."""

from __future__ import annotations

import re

from tallybook.openapi import describe
from tallybook.schema import ROOT
from tallybook.server import find_functions

ROUTES = [handler.route for handler in find_functions(ROOT)]  # type: ignore[attr-defined]
PATHS = describe(ROUTES)["paths"]


def test_every_path_of_every_function_is_described() -> None:
    assert set(PATHS) == {each.template for route in ROUTES for each in route.addresses}
    assert {"/functions/v1/coupons/verify", "/api/redeem"} <= set(PATHS)


def test_every_operation_has_an_identifier_of_its_own() -> None:
    names = [path["post"]["operationId"] for path in PATHS.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)
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
