"""Everything at once on one tenant: nobody waits in a circle, and the books agree."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal as D
from typing import Any
from uuid import UUID

import psycopg

from tests.tenants.company import Company
from tests.world import Connection

SECONDS = float(os.environ.get("TALLYBOOK_LOAD_SECONDS", "3"))
SESSIONS = 20


def test_of_sixty_four_awards_a_pool_for_forty_gives_forty(company: Company) -> None:
    tenant = company.tenant(40)
    manager = company.member(tenant, "tenant_manager")
    members = [company.member(tenant) for _ in range(64)]
    results = company.world.at_once(
        [
            lambda session, member=member: company.call(
                "award_to_user", session, user_id=manager, to_user_id=member, amount=1,
                recognition_message="Well done",
            )
            for member in members
        ]
    )  # fmt: skip
    errors = Counter(
        error.diag.message_primary for error in results if isinstance(error, psycopg.Error)
    )
    assert errors == {"insufficient_pool": 24}
    assert company.pool(tenant) == "0"
    assert sorted(company.wallet(tenant, member) for member in members) == ["0"] * 24 + ["1"] * 40


def test_everything_at_once(company: Company) -> None:
    world, seed = company.world, random.randrange(10**9)
    tenants = [
        company.tenant(500, allocation_mode=mode, wallets_permanent=False, auto_refill_amount=300)
        for mode in ("enforced", "legacy_fallback")
    ]
    people: dict[UUID, list[UUID]] = {}
    rewards: dict[UUID, UUID] = {}
    for tenant in tenants:
        department = company.department(tenant, monthly_cap=5000)
        company.endow(tenant, department, 100)
        roles = ["tenant_manager", "dept_lead", "manager", "employee", "employee", "employee"]
        people[tenant] = [
            company.member(tenant, role, department_id=department if n % 2 else None)
            for n, role in enumerate(roles)
        ]
        for user in people[tenant][:4]:
            company.enrich(tenant, user, 50)
        answer = company.call("set_reward", user_id=people[tenant][0], name="Mug",
                              points_cost=D(3), stock=500)  # fmt: skip
        rewards[tenant] = UUID(answer["reward_id"])
    until = time.monotonic() + SECONDS

    def work(number: int) -> Callable[[Connection], Counter[str]]:
        def call(session: Connection) -> Counter[str]:
            chance, done = random.Random(seed + number), Counter[str]()
            given: list[tuple[UUID, str]] = []
            redeemed: list[tuple[UUID, str]] = []
            allocated: list[tuple[UUID, str]] = []
            worker = world.session("tallybook_worker")
            while time.monotonic() < until:
                tenant = chance.choice(tenants)
                users = people[tenant]
                manager, lead = users[:2]
                one, other = chance.sample(users, 2)
                amount = D(chance.randint(1, 900)) / 100
                steps: list[tuple[str, dict[str, Any]]] = [
                    ("award_to_user", {"user_id": manager, "to_user_id": other, "amount": amount,
                                       "recognition_message": "Well done"}),
                    ("give_recognition", {"user_id": one, "points": amount, "message": "Well done",
                                          "recipients": chance.sample(users, 2)}),
                    ("give_recognition", {"user_id": one, "points": amount, "message": "Well done",
                                          "recipients": [other]}),
                    ("delegate_to_lead", {"user_id": manager, "lead_user_id": lead,
                                          "amount": amount}),
                    ("recall_from_lead", {"user_id": manager, "lead_user_id": lead,
                                          "amount": amount}),
                    ("redeem_reward", {"user_id": other, "reward_id": rewards[tenant]}),
                    ("allocate_to_tenant", {"user_id": None, "tenant_id": tenant,
                                            "amount": amount * 3}),
                    ("bulk_allocate_to_tenants", {"user_id": None, "amount": amount,
                                                  "tenant_ids": chance.sample(tenants, 2)}),
                    ("clawback_allocation", {"user_id": None, "tenant_id": tenant,
                                             "amount": amount, "reason": "Too much"}),
                    ("adjust_tenant_pool_to", {"user_id": None, "tenant_id": tenant,
                                               "balance": amount * 50, "reason": "Counted"}),
                    ("credit_wallet", {"user_id": None, "tenant_id": tenant, "to_user_id": one,
                                       "amount": amount, "source": "adjustment",
                                       "reason": "Missing"}),
                    ("refill_pools", {}),
                    ("expire_allocations", {}),
                    ("expire_wallets", {}),
                ]  # fmt: skip
                undone: list[tuple[str, dict[str, Any]]] = []
                for made, undo, named in (
                    (given, "revoke_recognition", "recognition_id"),
                    (redeemed, "refund_reward_redemption", "redemption_id"),
                    (allocated, "reverse_allocation", "allocation_id"),
                ):
                    if made:
                        of, what = made.pop()
                        undone.append(
                            (undo, {"user_id": None, "tenant_id": of, "reason": "No", named: what})
                        )
                procedure, asked = chance.choice(steps + undone * 4)
                through = worker if not asked else session
                try:
                    answer = company.call(procedure, through, **asked)
                except psycopg.Error as error:
                    done[f"{error.sqlstate} {(error.diag.message_primary or '')[:60]}"] += 1
                    if error.sqlstate == "40P01":
                        print(
                            time.monotonic() - until + SECONDS,
                            procedure,
                            asked,
                            error,
                            error.diag.context,
                        )
                else:
                    done[procedure] += 1
                    if "recognition_id" in answer and procedure != "revoke_recognition":
                        given.append((tenant, answer["recognition_id"]))
                    if procedure == "redeem_reward":
                        redeemed.append((tenant, answer["redemption_id"]))
                    if procedure == "allocate_to_tenant":
                        allocated.append((tenant, answer["allocation_log_id"]))
            return done

        return call

    results = world.at_once([work(n) for n in range(SESSIONS)])
    done: Counter[str] = Counter()
    for result in results:
        assert not isinstance(result, psycopg.Error), result
        done += result
    assert [what for what in done if what[:2].isdigit()] == [], done
    assert world.discrepancies() == []
