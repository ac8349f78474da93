"""The credit system's addresses over HTTP, as its guide and its users call them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from tallybook.database import _Lane
from tests.conftest import Database
from tests.gateway.client import Client, administrator, service
from tests.stack import Stack, running
from tests.world import World

CREDITS = "/api/v1/credits"
ADMIN = "/api/v1/admin/credits"
EMAIL = "test@example.com"


@pytest.fixture
def stack(database: Database, tmp_path: Path) -> Iterator[Stack]:
    with running(database, tmp_path, with_postgrest=False) as stack:
        yield stack


@pytest.fixture
def user(stack: Stack, world: World) -> Client:
    """Somebody with an address, who is new to credits."""
    somebody = Client(stack)
    world.admin.execute(
        "insert into auth.users (id, email) values (%s, %s)", (somebody.user, EMAIL)
    )
    return somebody


@pytest.fixture
def admin(stack: Stack, world: World) -> Client:
    return administrator(stack, world)


def get(client: Client, path: str, **query: Any) -> httpx.Response:
    return httpx.get(
        f"{client.stack.url}{path}", params=query, headers=client.credentials or {}, timeout=20
    )


def delete(client: Client, path: str, **query: Any) -> httpx.Response:
    return httpx.delete(
        f"{client.stack.url}{path}", params=query, headers=client.credentials or {}, timeout=20
    )


def ok(response: httpx.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    return response.json()


def refusal(response: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code, and the path of the fault."""
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, problem["code"], (problem["details"] or {}).get("path")


def give(admin: Client, amount: float, account: str = EMAIL, **more: Any) -> Any:
    body = {"user_id": account, "amount": amount, "reason": "test", **more}
    return ok(admin.post(f"{ADMIN}/allocate", body))


class TestCreditFlow:
    """The guide's flow, as printed."""

    def test_the_flow(self, user: Client, admin: Client) -> None:
        fresh = get(user, f"{CREDITS}/balance")
        assert fresh.text == '{"balance":0.0,"tier":"free","monthly_cap":null}'
        given = give(admin, 50.0)
        assert given["new_balance"] == 50
        assert ok(get(user, f"{CREDITS}/balance"))["balance"] == 50
        metadata = {"provider": "openai", "model": "gpt-4o", "tokens_used": 1000}
        taken = ok(user.post(f"{CREDITS}/deduct", {"amount": 10.0, "metadata": metadata}))
        assert taken["new_balance"] == 40
        history = ok(get(user, f"{CREDITS}/transactions", limit=5))["transactions"]
        assert [(t["transaction_type"], t["amount"]) for t in history] == [
            ("usage", -10),
            ("bonus", 50),
        ]
        assert history[0]["id"] == taken["transaction_id"]
        assert history[0]["metadata"] == metadata
        assert history[1]["reason"] == "test"

    def test_the_admins_allocation_as_printed(self, user: Client, admin: Client) -> None:
        body = {"user_id": EMAIL, "amount": 100.0, "reason": "bonus"}
        response = admin.post(f"{ADMIN}/allocate", body)
        assert '"new_balance":100.0' in response.text
        assert set(ok(response)) == {"new_balance", "transaction_id"}


class TestCreditBalanceEndpoints:
    def test_a_balance_has_exactly_three_members(self, user: Client) -> None:
        assert ok(get(user, f"{CREDITS}/balance")) == {
            "balance": 0.0,
            "tier": "free",
            "monthly_cap": None,
        }

    def test_the_history_comes_when_asked_for(self, user: Client, admin: Client) -> None:
        give(admin, 5)
        answer = ok(get(user, f"{CREDITS}/balance", include_history="true"))
        assert [entry["amount"] for entry in answer["history"]] == [5]

    def test_a_balance_is_exact_to_the_last_digit(self, user: Client, admin: Client) -> None:
        give(admin, 0.1)
        for _ in range(3):
            ok(user.post(f"{CREDITS}/deduct", b'{"amount": 0.000001}'))
        assert get(user, f"{CREDITS}/balance").text.startswith('{"balance":0.099997,')

    def test_a_balance_after_a_charge_is_the_new_one(self, user: Client, admin: Client) -> None:
        give(admin, 3)
        for left in (2, 1, 0):
            ok(user.post(f"{CREDITS}/deduct", {"amount": 1}))
            assert ok(get(user, f"{CREDITS}/balance"))["balance"] == left

    def test_a_session_cookie_reads_and_does_not_write(self, stack: Stack, user: Client) -> None:
        token = (user.credentials or {})["authorization"].removeprefix("Bearer ")
        cookie = {"cookie": f"theme=dark; session_token={token}"}
        url = f"{stack.url}{CREDITS}"
        assert httpx.get(f"{url}/balance", headers=cookie).status_code == 200
        assert httpx.post(f"{url}/deduct", json={"amount": 1}, headers=cookie).status_code == 401

    def test_a_program_reads_for_the_user_it_names(self, stack: Stack, user: Client) -> None:
        program = service(stack)
        assert ok(get(program, f"{CREDITS}/balance", user_id=str(user.user)))["balance"] == 0
        assert refusal(get(program, f"{CREDITS}/balance")) == (400, "invalid_body", "$.user_id")

    def test_unknown_parameters_are_named(self, user: Client) -> None:
        assert refusal(get(user, f"{CREDITS}/balance", colour="red")) == (
            400,
            "invalid_body",
            "$.colour",
        )

    def test_another_method_is_told_which_there_are(self, user: Client) -> None:
        response = user.post(f"{CREDITS}/balance", {})
        assert response.status_code == 405
        assert "GET" in response.headers["allow"]

    def test_the_function_is_the_same_handler(self, user: Client, admin: Client) -> None:
        give(admin, 2)
        assert ok(user.post("/functions/v1/credits/balance", {}))["balance"] == 2


class TestCalculateCost:
    BODY = {"tokens_used": 1000, "model": "gpt-4o", "power_level": "balanced"}  # noqa: RUF012

    def test_the_cost_as_printed(self, user: Client) -> None:
        response = user.post(f"{CREDITS}/calculate-cost", self.BODY)
        assert response.text == '{"cost":0.00375}'

    def test_it_is_open_to_who_has_no_token(self, stack: Stack) -> None:
        nobody = Client(stack, credentials={})
        assert ok(nobody.post(f"{CREDITS}/calculate-cost", self.BODY)) == {"cost": 0.00375}

    def test_a_bad_token_is_not_nobody(self, stack: Stack) -> None:
        bad = Client(stack, credentials={"authorization": "Bearer nonsense"})
        assert bad.post(f"{CREDITS}/calculate-cost", self.BODY).status_code == 401

    def test_it_charges_nothing(self, user: Client, admin: Client) -> None:
        give(admin, 1)
        ok(user.post(f"{CREDITS}/calculate-cost", self.BODY))
        assert ok(get(user, f"{CREDITS}/balance"))["balance"] == 1

    def test_negative_tokens_are_refused(self, user: Client) -> None:
        response = user.post(f"{CREDITS}/calculate-cost", {**self.BODY, "tokens_used": -1})
        assert refusal(response) == (400, "invalid_body", "$.tokens_used")


class TestDeduct:
    def test_too_little_is_402_in_the_words_of_the_guide(self, user: Client, admin: Client) -> None:
        give(admin, 1.5)
        response = user.post(f"{CREDITS}/deduct", {"amount": 2})
        assert refusal(response) == (402, "insufficient_credits", None)
        assert response.json()["error"] == "Insufficient credits. Balance: 1.5, Required: 2"

    @pytest.mark.parametrize("amount", ["-1", "0", "1e10", "0.0000001"])
    def test_no_odd_amount_is_charged(self, user: Client, admin: Client, amount: str) -> None:
        give(admin, 10)
        response = user.post(f"{CREDITS}/deduct", f'{{"amount": {amount}}}'.encode())
        assert refusal(response) == (400, "invalid_amount", "$.amount")
        assert ok(get(user, f"{CREDITS}/balance"))["balance"] == 10

    @pytest.mark.parametrize("amount", ["NaN", "Infinity", "true", "null", '"ten"'])
    def test_what_is_no_number_is_refused(self, user: Client, amount: str) -> None:
        response = user.post(f"{CREDITS}/deduct", f'{{"amount": {amount}}}'.encode())
        assert refusal(response)[:2] == (400, "invalid_body")

    def test_a_priced_charge(self, user: Client, admin: Client) -> None:
        give(admin, 1)
        body = {"tokens_used": 1000, "model": "gpt-4o", "power_level": "precision"}
        answer = ok(user.post(f"{CREDITS}/calculate-and-deduct", body))
        assert (answer["cost"], answer["new_balance"]) == (0.015, 0.985)

    def test_a_key_makes_a_retry_the_same_charge(self, user: Client, admin: Client) -> None:
        give(admin, 10)
        first = user.post(f"{CREDITS}/deduct", {"amount": 4}, idempotency_key="call-1")
        again = user.post(f"{CREDITS}/deduct", {"amount": 4}, idempotency_key="call-1")
        assert ok(again) == ok(first)
        assert again.headers["idempotent-replayed"] == "true"
        assert refusal(user.post(f"{CREDITS}/deduct", {"amount": 5}, idempotency_key="call-1")) == (
            409,
            "nonce_reused",
            "$.idempotency_key",
        )
        assert ok(get(user, f"{CREDITS}/balance"))["balance"] == 6

    def test_without_a_key_a_charge_is_made_once_when_the_databases_answer_is_lost(
        self, user: Client, admin: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        give(admin, 10)
        attempt, lost = _Lane._try, []

        async def losing(lane: _Lane, payload: str, count: int) -> Any:
            answer = await attempt(lane, payload, count)
            if not lost:
                lost.append(payload)
                raise psycopg.OperationalError("the connection is lost")
            return answer

        monkeypatch.setattr(_Lane, "_try", losing)
        ok(user.post(f"{CREDITS}/deduct", {"amount": 4}))
        assert len(lost) == 1 and ok(get(user, f"{CREDITS}/balance"))["balance"] == 6

    def test_middleware_and_handler_charge_once(self, user: Client, admin: Client) -> None:
        give(admin, 10)
        ok(user.post(f"{CREDITS}/deduct", {"amount": 1}, idempotency_key="request-7"))
        body = {"tokens_used": 1000, "model": "gpt-4o"}
        again = user.post(f"{CREDITS}/calculate-and-deduct", body, idempotency_key="request-7")
        assert refusal(again)[:2] == (409, "nonce_reused")
        assert ok(get(user, f"{CREDITS}/balance"))["balance"] == 9

    def test_two_hundred_at_once_of_what_affords_a_hundred(
        self, user: Client, admin: Client
    ) -> None:
        give(admin, 1)
        with ThreadPoolExecutor(50) as threads, httpx.Client(timeout=30) as http:
            statuses = list(
                threads.map(
                    lambda _: (
                        http.post(
                            f"{user.stack.url}{CREDITS}/deduct",
                            json={"amount": 0.01},
                            headers=user.credentials,
                        ).status_code
                    ),
                    range(200),
                )
            )
        assert (statuses.count(200), statuses.count(402)) == (100, 100)
        assert get(user, f"{CREDITS}/balance").text.startswith('{"balance":0.0,')


class TestTransactions:
    def test_pages_follow_each_other_and_miss_nothing(self, user: Client, admin: Client) -> None:
        for amount in range(1, 8):
            give(admin, amount)
        seen: list[float] = []
        query: dict[str, Any] = {"limit": 3}
        while True:
            page = ok(get(user, f"{CREDITS}/transactions", **query))
            seen += [entry["amount"] for entry in page["transactions"]]
            if page["next_cursor"] is None:
                break
            query = {"limit": 3, "cursor": page["next_cursor"]}
        assert seen == [7, 6, 5, 4, 3, 2, 1]
        offset = ok(get(user, f"{CREDITS}/transactions", limit=2, offset=4))
        assert [entry["amount"] for entry in offset["transactions"]] == [3, 2]

    def test_they_are_filtered_by_type_and_day(self, user: Client, admin: Client) -> None:
        give(admin, 10)
        ok(user.post(f"{CREDITS}/deduct", {"amount": 4}))
        path = f"{CREDITS}/transactions"
        found = ok(get(user, path, type="usage"))["transactions"]
        assert [entry["amount"] for entry in found] == [-4]
        today = found[0]["created_at"][:10]
        assert len(ok(get(user, path, start_date=today, end_date=today))["transactions"]) == 2
        assert ok(get(user, path, end_date="2020-01-31"))["transactions"] == []
        late = {"start_date": "2999-01-01T00:00:00Z"}
        assert ok(get(user, path, **late))["transactions"] == []

    @pytest.mark.parametrize(
        ("query", "path"),
        [
            ({"limit": 0}, "$.limit"),
            ({"limit": 201}, "$.limit"),
            ({"offset": -1}, "$.offset"),
            ({"type": "theft"}, "$.type"),
            ({"start_date": "yesterday.."}, "$.start_date"),
            ({"end_date": "2026-02-31"}, "$.end_date"),
            ({"cursor": "nonsense"}, "$.cursor"),
        ],
    )
    def test_a_bad_filter_is_named(self, user: Client, query: dict[str, Any], path: str) -> None:
        response = get(user, f"{CREDITS}/transactions", **query)
        assert refusal(response) == (400, "invalid_body", path)

    def test_one_by_its_id(self, user: Client, admin: Client) -> None:
        given = give(admin, 10)
        entry = ok(get(user, f"{CREDITS}/transactions/{given['transaction_id']}"))
        assert (entry["amount"], entry["transaction_type"]) == (10, "bonus")
        assert refusal(get(user, f"{CREDITS}/transactions/{uuid4()}"))[:2] == (
            404,
            "transaction_not_found",
        )

    def test_the_export_is_a_table(self, user: Client, admin: Client) -> None:
        give(admin, 10, reason="=SUM(A1:A9)")
        ok(user.post(f"{CREDITS}/deduct", {"amount": 0.000001, "metadata": {"a": "b,c"}}))
        response = get(user, f"{CREDITS}/transactions/export", format="csv")
        assert response.headers["content-type"].startswith("text/csv")
        assert "attachment" in response.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(response.text)))
        assert [row["amount"] for row in rows] == ["-0.000001", "10.0"]
        assert json.loads(rows[0]["metadata"]) == {"a": "b,c"}
        # A spreadsheet takes what begins so for a formula.
        assert rows[1]["reason"] == "'=SUM(A1:A9)"
        as_json = ok(get(user, f"{CREDITS}/transactions/export", format="json"))
        assert len(as_json["transactions"]) == 2


class TestReservations:
    def test_reserve_settle_and_what_is_left(self, user: Client, admin: Client) -> None:
        give(admin, 1)
        body = {"model": "gpt-4o", "max_tokens": 4000, "power_level": "precision"}
        reserved = ok(user.post(f"{CREDITS}/reserve", body))
        assert (reserved["reserved"], reserved["available"]) == (0.06, 0.94)
        settled = ok(
            user.post(
                f"{CREDITS}/settle",
                {"reservation_id": reserved["reservation_id"], "tokens_used": 1000},
            )
        )
        assert (settled["charged"], settled["released"]) == (0.015, 0.045)
        assert ok(get(user, f"{CREDITS}/balance"))["balance"] == 0.985

    def test_what_is_reserved_cannot_be_spent(self, user: Client, admin: Client) -> None:
        give(admin, 0.06)
        body = {"model": "gpt-4o", "max_tokens": 4000, "power_level": "precision"}
        reserved = ok(user.post(f"{CREDITS}/reserve", body))
        assert refusal(user.post(f"{CREDITS}/deduct", {"amount": 0.01}))[0] == 402
        released = {"reservation_id": reserved["reservation_id"]}
        ok(user.post(f"{CREDITS}/release", released))
        ok(user.post(f"{CREDITS}/deduct", {"amount": 0.01}))

    def test_a_user_does_not_settle_what_a_program_reserved(
        self, stack: Stack, user: Client, admin: Client
    ) -> None:
        give(admin, 1)
        program = service(stack)
        body = {"user_id": str(user.user), "model": "gpt-4o", "max_tokens": 1000}
        reserved = ok(program.post(f"{CREDITS}/reserve", body))
        settle = {"reservation_id": reserved["reservation_id"], "tokens_used": 0}
        assert refusal(user.post(f"{CREDITS}/settle", settle))[0] == 403


class TestMonthlyCap:
    def test_it_is_set_read_and_lifted(self, user: Client, admin: Client) -> None:
        give(admin, 100)
        path = f"{CREDITS}/monthly-cap"
        assert ok(get(user, path))["monthly_cap"] is None
        assert ok(user.post(path, {"monthly_cap": 5}))["remaining"] == 5
        ok(user.post(f"{CREDITS}/deduct", {"amount": 4}))
        response = user.post(f"{CREDITS}/deduct", {"amount": 2})
        assert refusal(response)[:2] == (429, "monthly_cap_reached")
        assert int(response.headers["retry-after"]) > 60
        assert ok(get(user, f"{CREDITS}/balance"))["monthly_cap"] == 5
        ok(user.post(path, {"monthly_cap": None}))
        ok(user.post(f"{CREDITS}/deduct", {"amount": 2}))


class TestAdministration:
    def test_many_are_given_at_once_and_each_by_itself(
        self, user: Client, admin: Client, stack: Stack
    ) -> None:
        other = Client(stack)
        allocations = [
            {"user_id": EMAIL, "amount": 5},
            {"user_id": "nobody@example.com", "amount": 5},
            {"user_id": str(other.user), "amount": -5},
            {"user_id": str(other.user), "amount": 7},
        ]
        body = {"allocations": allocations, "reason": "launch"}
        answer = ok(admin.post(f"{ADMIN}/bulk-allocate", body))
        assert (answer["success_count"], answer["failed_count"]) == (2, 2)
        assert [entry.get("code") for entry in answer["results"]] == [
            None,
            "user_not_found",
            "invalid_amount",
            None,
        ]
        assert ok(get(other, f"{CREDITS}/balance"))["balance"] == 7

    def test_a_thousand_fit_into_one_request(self, user: Client, admin: Client) -> None:
        allocations = [
            {"user_id": EMAIL, "amount": 1, "reason": "x" * 40, "idempotency_key": f"launch-{n}"}
            for n in range(1000)
        ]
        body = {"allocations": allocations}
        assert ok(admin.post(f"{ADMIN}/bulk-allocate", body))["success_count"] == 1000
        assert ok(get(user, f"{CREDITS}/balance"))["balance"] == 1000

    def test_a_refund_comes_back(self, user: Client, admin: Client) -> None:
        give(admin, 10)
        taken = ok(user.post(f"{CREDITS}/deduct", {"amount": 4}))
        body = {
            "user_id": EMAIL,
            "transaction_id": taken["transaction_id"],
            "reason": "the model failed",
        }
        assert ok(admin.post(f"{CREDITS}/refund", body))["new_balance"] == 10
        assert refusal(admin.post(f"{CREDITS}/refund", {**body, "amount": 1}))[1] == (
            "refund_exceeded"
        )

    def test_a_webhook_that_comes_twice_grants_once(self, user: Client, stack: Stack) -> None:
        program = service(stack)
        body = {"user_id": EMAIL, "package": "credits_10000", "payment_id": "pi_1"}
        first = program.post(f"{ADMIN}/purchases", body)
        again = program.post(f"{ADMIN}/purchases", body)
        assert ok(again) == ok(first)
        assert ok(get(user, f"{CREDITS}/balance"))["balance"] == 10_000

    def test_the_analytics_know_what_was_spent(self, user: Client, admin: Client) -> None:
        give(admin, 10)
        ok(user.post(f"{CREDITS}/calculate-and-deduct", {"tokens_used": 1000, "model": "gpt-4o"}))
        system = ok(get(admin, f"{ADMIN}/analytics/system"))
        assert "0.00375" in json.dumps(system)
        top = ok(get(admin, f"{ADMIN}/analytics/top-spenders"))
        assert str(user.user) in json.dumps(top)
        ok(get(admin, f"{ADMIN}/analytics/distribution"))


class TestPromotions:
    def test_welcome_and_save(self, user: Client, admin: Client, world: World) -> None:
        world.operator.execute(
            "insert into coupon_codes (code, discount_type, discount_value, max_uses, expires_at)"
            " values ('WELCOME100', 'fixed', 100.00, 1000, now() + interval '30 days'),"
            " ('SAVE50', 'percentage', 50, 500, now() + interval '60 days')"
            " on conflict (code) do nothing"
        )
        path = f"{CREDITS}/coupons"
        assert ok(user.post(f"{path}/validate", {"code": "welcome100"}))["valid"] is True
        assert ok(user.post(f"{path}/redeem", {"code": " welcome100 "}))["new_balance"] == 100
        assert refusal(user.post(f"{path}/redeem", {"code": "WELCOME100"}))[:2] == (
            409,
            "coupon_used",
        )
        ok(user.post(f"{path}/redeem", {"code": "SAVE50"}))
        packages = ok(get(user, f"{CREDITS}/packages"))["packages"]
        assert [(entry["price"], entry["amount_due"]) for entry in packages] == [
            (10, 5),
            (50, 25),
            (100, 50),
        ]

    def test_an_administrator_makes_lists_and_deletes_codes(
        self, user: Client, admin: Client
    ) -> None:
        body = {"code": "SPRING", "discount_type": "fixed", "discount_value": 3}
        ok(admin.post(f"{ADMIN}/coupons", body))
        listed = ok(get(admin, f"{ADMIN}/coupons"))["promotions"]
        assert [entry["code"] for entry in listed] == ["SPRING"]
        ok(delete(admin, f"{ADMIN}/coupons/SPRING"))
        assert refusal(user.post(f"{CREDITS}/coupons/redeem", {"code": "SPRING"}))[:2] == (
            404,
            "coupon_not_valid",
        )


class TestUsageAndTiers:
    def test_statistics_by_model_provider_and_power_level(
        self, user: Client, admin: Client
    ) -> None:
        give(admin, 10)
        for model in ("gpt-4o", "gpt-4o", "openai/gpt-x"):
            body = {"tokens_used": 1000, "model": model, "provider": "openai"}
            ok(user.post(f"{CREDITS}/calculate-and-deduct", body))
        total = ok(get(user, f"{CREDITS}/usage/stats"))["total"]
        assert (total["events"], total["tokens"], total["cost"]) == (3, 3000, 0.01125)
        by_model = ok(get(user, f"{CREDITS}/usage/by-model"))["groups"]
        assert {group["model"]: group["events"] for group in by_model} == {
            "gpt-4o": 2,
            "openai/gpt-x": 1,
        }
        for name in ("by-provider", "by-power-level"):
            (group,) = ok(get(user, f"{CREDITS}/usage/{name}"))["groups"]
            assert group["cost"] == 0.01125

    def test_tiers_are_compared_and_a_user_only_goes_down(
        self, user: Client, admin: Client
    ) -> None:
        tiers = ok(get(user, f"{CREDITS}/tiers/compare"))
        assert tiers["current"] == "free"
        assert [(tier["tier"], tier["cost"]) for tier in tiers["tiers"]] == [
            ("free", 0.00375),
            ("trial", 0.00375),
            ("starter", 0.00525),
            ("professional", 0.006),
            ("enterprise", 0.00675),
        ]
        path = f"{CREDITS}/tiers/switch"
        assert refusal(user.post(path, {"tier": "starter"}))[:2] == (403, "forbidden")
        ok(admin.post(path, {"tier": "starter", "user_id": EMAIL}))
        assert ok(get(user, f"{CREDITS}/balance"))["tier"] == "starter"
        ok(user.post(path, {"tier": "free"}))


def test_the_system_tells_its_status_to_everybody(stack: Stack) -> None:
    answer = ok(httpx.get(f"{stack.url}/api/v1/system/status"))
    assert (answer["status"], answer["credits"]) == ("healthy", "enabled")


def test_what_is_switched_off_says_so(database: Database, tmp_path: Path) -> None:
    with running(database, tmp_path, with_postgrest=False, CREDIT_SYSTEM_ENABLED="false") as stack:
        response = get(Client(stack), f"{CREDITS}/balance")
        assert refusal(response)[:2] == (503, "unavailable")
        assert int(response.headers["retry-after"]) > 0
        assert ok(httpx.get(f"{stack.url}/api/v1/system/status"))["credits"] == "disabled"
