"""Who may call which function: every route, every kind of caller, one expected status each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import jwt
import pytest

from tallybook.coupon_code import new_code
from tallybook.schema import ROOT
from tallybook.server import find_functions
from tests.conftest import Database
from tests.gateway.client import Client, event
from tests.stack import Stack, running
from tests.world import World

# What a caller gets who is let in depends on the body; this is what these bodies get.
BODIES = {
    "submit-points-event": lambda template: event(),
    "redeem-coupon": lambda template: {"template_id": template, "idempotency_key": uuid4().hex},
    "validate-points-event": lambda template: {},
    "points-balance": lambda template: {},
    "points-schedule": lambda template: {},
    "attestation/challenge": lambda template: {"purpose": "submit", "platform": "android"},
    "attestation/register": lambda template: {
        "key_id": "a",
        "challenge": "b",
        "attestation": "c",
    },
    "coupons/verify": lambda template: {"code": new_code()},
    "coupons/consume": lambda template: {"code": new_code(), "idempotency_key": uuid4().hex},
    "coupons/hold": lambda template: {"code": new_code(), "idempotency_key": uuid4().hex},
    "coupons/release": lambda template: {"code": new_code(), "idempotency_key": uuid4().hex},
    "coupons/revoke": lambda template: {"coupon_id": str(uuid4()), "reason": "Why not."},
    "coupons/refund": lambda template: {"coupon_id": str(uuid4()), "reason": "Why not."},
    "review/approve": lambda template: {"event_id": str(uuid4()), "reason": "Why not."},
    "review/reject": lambda template: {"event_id": str(uuid4()), "reason": "Why not."},
    "credit-reservations/reserve": lambda template: {"model": "llama3-8b-local"},
    "credit-reservations/settle": lambda template: {
        "reservation_id": str(uuid4()),
        "tokens_used": 1,
    },
    "credit-reservations/release": lambda template: {"reservation_id": str(uuid4())},
    "credit-reservations/monthly-cap": lambda template: {},
    "credit-reservations/set-monthly-cap": lambda template: {"monthly_cap": 1},
    "credit-coupons/redeem": lambda template: {"code": "NEVER"},
    "credit-coupons/validate": lambda template: {"code": "NEVER"},
    "credit-coupons/create": lambda template: {
        "code": "SPRING",
        "discount_type": "fixed",
        "discount_value": 1,
    },
    "credit-coupons/promotions": lambda template: {},
    "credit-coupons/delete": lambda template: {"code": "NEVER"},
    "credit-purchases/packages": lambda template: {},
    "credit-usage/stats": lambda template: {},
    "credit-usage/by-model": lambda template: {},
    "credit-usage/by-provider": lambda template: {},
    "credit-usage/by-power-level": lambda template: {},
    "credit-usage/system": lambda template: {},
    "credit-usage/top-spenders": lambda template: {},
    "credit-usage/distribution": lambda template: {},
    "credit-purchases/record": lambda template: {
        "user_id": str(uuid4()),
        "package": "credits_1",
        "payment_id": "pay_1",
    },
    "credits/balance": lambda template: {},
    "credits/lots": lambda template: {},
    "credits/transactions": lambda template: {},
    "credits/transaction": lambda template: {"transaction_id": str(uuid4())},
    "credits/export": lambda template: {},
    "credits/calculate-cost": lambda template: {"tokens_used": 1, "model": "gpt-4o"},
    "credits/deduct": lambda template: {"amount": 1},
    "credits/calculate-and-deduct": lambda template: {"tokens_used": 1, "model": "gpt-4o"},
    "credit-tiers/compare": lambda template: {},
    "credit-tiers/switch": lambda template: {"tier": "free"},
    "openrouter-accounts/account": lambda template: {},
    "openrouter-accounts/connect": lambda template: {"api_key": "sk-or-none"},
    "openrouter-accounts/disconnect": lambda template: {},
    "openrouter-accounts/sync": lambda template: {},
    "allocations/stats": lambda template: {"tenant_id": str(uuid4())},
    "points-ledger/allocation-logs": lambda template: {},
    "points-ledger/platform-billing-logs": lambda template: {},
    "points-ledger/wallet-ledger": lambda template: {},
    "points-ledger/stats": lambda template: {},
    "credit-admin/allocate": lambda template: {
        "user_id": str(uuid4()),
        "amount": 1,
        "reason": "Why not.",
    },
    "credit-admin/bulk-allocate": lambda template: {
        "allocations": [{"user_id": str(uuid4()), "amount": 1}],
        "reason": "Why not.",
    },
    "credit-admin/refund": lambda template: {
        "user_id": str(uuid4()),
        "transaction_id": str(uuid4()),
        "reason": "Why not.",
    },
    "rewards/catalogue": lambda template: {},
    "rewards/wallet": lambda template: {},
    "rewards/redeem": lambda template: {"reward_id": str(uuid4())},
    "rewards/refund": lambda template: {
        "redemption_id": str(uuid4()),
        "reason": "Why not.",
        "tenant_id": str(uuid4()),
    },
    "allocations/to-tenant": lambda template: {"tenant_id": str(uuid4()), "amount": 1},
    "allocations/bulk": lambda template: {"tenant_ids": [str(uuid4())], "amount": 1},
    "allocations/clawback": lambda template: {"tenant_id": str(uuid4()), "reason": "Why not."},
    "allocations/reverse": lambda template: {
        "tenant_id": str(uuid4()),
        "allocation_id": str(uuid4()),
        "reason": "Why not.",
    },
    "allocations/adjust": lambda template: {
        "tenant_id": str(uuid4()),
        "balance": 1,
        "reason": "Why not.",
    },
    "allocations/credit-wallet": lambda template: {
        "tenant_id": str(uuid4()),
        "to_user_id": str(uuid4()),
        "amount": 1,
        "source": "adjustment",
        "reason": "Why not.",
    },
    "tenants/create": lambda template: {"name": "Acme"},
    "tenants/members": lambda template: {"tenant_id": str(uuid4())},
    "tenants/set-member": lambda template: {
        "tenant_id": str(uuid4()),
        "account": str(uuid4()),
    },
    "tenants/set-department": lambda template: {"tenant_id": str(uuid4()), "name": "Sales"},
    "tenants/set-reward": lambda template: {
        "tenant_id": str(uuid4()),
        "name": "Mug",
        "points_cost": 1,
    },
    "allocations/delegate": lambda template: {"lead_user_id": str(uuid4()), "amount": 1},
    "allocations/award": lambda template: {
        "to_user_id": str(uuid4()),
        "amount": 1,
        "recognition_message": "Great work!",
        "tenant_id": str(uuid4()),
    },
    "recognitions/give": lambda template: {"to_user_id": str(uuid4()), "message": "Great work!"},
    "recognitions/list": lambda template: {},
    "recognitions/revoke": lambda template: {
        "recognition_id": str(uuid4()),
        "reason": "Why not.",
        "tenant_id": str(uuid4()),
    },
    "allocations/recall": lambda template: {"lead_user_id": str(uuid4())},
}
CALLERS = ["nobody", "user", "administrator", "service token", "secret key", "publishable key"]
MATRIX = {
    "submit-points-event": (401, 202, 202, 403, 403, 403),
    "redeem-coupon": (401, 400, 400, 403, 403, 403),
    "validate-points-event": (401, 403, 200, 200, 200, 403),
    "points-balance": (401, 200, 200, 403, 403, 403),
    "points-schedule": (401, 200, 200, 403, 403, 403),
    "allocations/stats": (401, 403, 404, 404, 404, 403),
    "points-ledger/allocation-logs": (401, 403, 200, 200, 200, 403),
    "points-ledger/platform-billing-logs": (401, 403, 200, 200, 200, 403),
    "points-ledger/wallet-ledger": (401, 403, 200, 200, 200, 403),
    "points-ledger/stats": (401, 403, 200, 200, 200, 403),
    "attestation/challenge": (401, 200, 200, 403, 403, 403),
    # Nobody configured it here, so that whoever is let in is told so with a 403 as well.
    "attestation/register": (401, 403, 403, 403, 403, 403),
    # By a code that nobody has: a partner, an administrator and a stranger learn the same.
    "coupons/verify": (401, 404, 404, 404, 404, 403),
    "coupons/consume": (401, 404, 404, 404, 404, 403),
    "coupons/hold": (401, 404, 404, 404, 404, 403),
    "coupons/release": (401, 404, 404, 404, 404, 403),
    # By an id: whether there is such a thing is only for who may ask.
    "coupons/revoke": (401, 403, 404, 404, 404, 403),
    "coupons/refund": (401, 403, 404, 404, 404, 403),
    "review/approve": (401, 403, 404, 404, 404, 403),
    "review/reject": (401, 403, 404, 404, 404, 403),
    # A program must say for whom.
    "credit-reservations/reserve": (401, 200, 200, 400, 400, 403),
    "credit-reservations/settle": (401, 404, 404, 400, 400, 403),
    "credit-reservations/release": (401, 404, 404, 400, 400, 403),
    "credit-reservations/monthly-cap": (401, 200, 200, 400, 400, 403),
    "credit-reservations/set-monthly-cap": (401, 200, 200, 400, 400, 403),
    "credit-coupons/redeem": (401, 404, 404, 400, 400, 403),
    "credit-coupons/validate": (401, 404, 404, 400, 400, 403),
    "credit-coupons/create": (401, 403, 200, 200, 200, 403),
    "credit-coupons/promotions": (401, 403, 200, 200, 200, 403),
    "credit-coupons/delete": (401, 403, 404, 404, 404, 403),
    "credit-purchases/packages": (401, 200, 200, 400, 400, 403),
    "credit-purchases/record": (401, 403, 404, 404, 404, 403),
    "credits/balance": (401, 200, 200, 400, 400, 403),
    "credits/lots": (401, 200, 200, 400, 400, 403),
    "credits/transactions": (401, 200, 200, 400, 400, 403),
    "credits/transaction": (401, 404, 404, 400, 400, 403),
    "credits/export": (401, 200, 200, 400, 400, 403),
    # What something costs is no secret.
    "credits/calculate-cost": (200, 200, 200, 200, 200, 200),
    "credits/deduct": (401, 402, 402, 400, 400, 403),
    "credits/calculate-and-deduct": (401, 402, 402, 400, 400, 403),
    "credit-tiers/compare": (401, 200, 200, 400, 400, 403),
    "credit-tiers/switch": (401, 200, 200, 400, 400, 403),
    # Nobody configured here how keys are encrypted.
    "openrouter-accounts/account": (401, 404, 404, 400, 400, 403),
    "openrouter-accounts/connect": (401, 503, 503, 503, 503, 403),
    "openrouter-accounts/disconnect": (401, 404, 404, 400, 400, 403),
    "openrouter-accounts/sync": (401, 503, 503, 503, 503, 403),
    "credit-admin/allocate": (401, 403, 200, 200, 200, 403),
    "credit-admin/bulk-allocate": (401, 403, 200, 200, 200, 403),
    "credit-admin/refund": (401, 403, 404, 404, 404, 403),
    "credit-usage/stats": (401, 200, 200, 400, 400, 403),
    "credit-usage/by-model": (401, 200, 200, 400, 400, 403),
    "credit-usage/by-provider": (401, 200, 200, 400, 400, 403),
    "credit-usage/by-power-level": (401, 200, 200, 400, 400, 403),
    "credit-usage/system": (401, 403, 200, 200, 200, 403),
    "credit-usage/top-spenders": (401, 403, 200, 200, 200, 403),
    "credit-usage/distribution": (401, 403, 200, 200, 200, 403),
    # Of no tenant, and so of none of its members.
    "rewards/catalogue": (401, 403, 403, 400, 400, 403),
    "rewards/wallet": (401, 403, 403, 400, 400, 403),
    "rewards/redeem": (401, 403, 403, 400, 400, 403),
    "rewards/refund": (401, 403, 404, 404, 404, 403),
    "allocations/to-tenant": (401, 403, 404, 404, 404, 403),
    "allocations/bulk": (401, 403, 200, 200, 200, 403),
    "allocations/clawback": (401, 403, 404, 404, 404, 403),
    "allocations/award": (401, 403, 404, 404, 404, 403),
    "recognitions/give": (401, 403, 403, 403, 403, 403),
    "recognitions/list": (401, 403, 403, 403, 403, 403),
    "recognitions/revoke": (401, 403, 404, 404, 404, 403),
    "allocations/reverse": (401, 403, 404, 404, 404, 403),
    "allocations/adjust": (401, 403, 404, 404, 404, 403),
    "allocations/credit-wallet": (401, 403, 404, 404, 404, 403),
    "tenants/create": (401, 403, 200, 200, 200, 403),
    "tenants/members": (401, 403, 404, 404, 404, 403),
    "tenants/set-member": (401, 403, 404, 404, 404, 403),
    "tenants/set-department": (401, 403, 404, 404, 404, 403),
    "tenants/set-reward": (401, 403, 404, 404, 404, 403),
    # Only members of a tenant have one to manage.
    "allocations/delegate": (401, 403, 403, 403, 403, 403),
    "allocations/recall": (401, 403, 403, 403, 403, 403),
}
ADMIN = uuid4()
BAD_TOKENS = [
    "expired",
    "another audience",
    "another key",
    "alg none",
    "hs256 with the public key",
    "no subject",
    "role of the database",
    "publishable key as bearer alone",
]


@pytest.fixture(scope="module")
def routes() -> dict[str, str]:
    """Slug -> path, of everything that is served."""
    found = {}
    for handler in find_functions(ROOT):
        route = handler.route  # type: ignore[attr-defined]
        found[route.slug] = route.path
    return found


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


def credentials(stack: Stack, caller: str) -> dict[str, str]:
    keys, user = stack.keys, uuid4()

    def bearer(token: str) -> dict[str, str]:
        return {"authorization": f"Bearer {token}"}

    match caller:
        case "nobody":
            return {}
        case "user":
            return bearer(keys.token(user))
        case "administrator":
            return bearer(keys.token(ADMIN))
        case "service token":
            return bearer(keys.token(None, role="service_role"))
        case "secret key":
            return {"apikey": keys.secret_key}
        case "publishable key":
            return {"apikey": keys.publishable_key}
        case "expired":
            return bearer(keys.token(user, seconds=-3600))
        case "another audience":
            return bearer(keys.token(user, aud="somebody else"))
        case "another key":
            return bearer(type(keys).new().token(user))
        case "alg none":
            claims = jwt.decode(keys.token(user), options={"verify_signature": False})
            return bearer(jwt.encode(claims, None, algorithm="none"))
        case "hs256 with the public key":
            claims = jwt.decode(keys.token(user), options={"verify_signature": False})
            secret = keys.jwks["keys"][0]["x"] * 2
            return bearer(jwt.encode(claims, secret, algorithm="HS256"))
        case "no subject":
            return bearer(keys.token(None))
        case "role of the database":
            return bearer(keys.token(user, role="tallybook_operator"))
        case "publishable key as bearer alone":
            return bearer(keys.publishable_key)
    raise AssertionError(caller)


def test_every_route_is_in_the_matrix(routes: dict[str, str]) -> None:
    assert set(routes) == set(MATRIX) == set(BODIES)


def test_the_matrix(stack: Stack, world: World, routes: dict[str, str]) -> None:
    template = str(world.template(cost=500))
    world.operator.execute("insert into system_admins (id) values (%s)", (ADMIN,))
    for slug, path in routes.items():
        statuses = tuple(
            Client(stack, credentials=credentials(stack, caller))
            .post(path, BODIES[slug](template))
            .status_code
            for caller in CALLERS
        )
        assert statuses == MATRIX[slug], slug


@pytest.mark.parametrize("caller", BAD_TOKENS)
def test_a_bad_token_opens_no_door(
    stack: Stack, world: World, routes: dict[str, str], caller: str
) -> None:
    given = credentials(stack, caller)
    for slug, path in routes.items():
        # Not even where a good key comes along: a bad token never falls through to another mode.
        for also in ({}, {"apikey": stack.keys.secret_key}):
            answer = Client(stack, credentials={**given, **also}).post(path, BODIES[slug](None))
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), slug
    assert world.count("points_events") == 0
