"""A gathered call does what its requests would do one after the other, each by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tenants.company import Company

CORE = "internal.give_recognition_batch"
EMPLOYEES = ("eve", "fay", "gus", "hal", "ida")
ROLES = {
    "ann": "tenant_manager",
    "bob": "manager",
    "cat": "dept_lead",
    "dan": "tenant_lead",
    **dict.fromkeys(EMPLOYEES, "employee"),
}
SALES = ("bob", "cat", "eve")
PLACES = ("enforced", "legacy", "closed")


def whole(asked: dict[str, Any]) -> dict[str, Any]:
    """Nobody recognizes themselves, and only who has no place there must award."""
    _, name = asked["asker"]
    others = [each for each in asked["recipients"] if each != name] or ["ida"]
    return {**asked, "recipients": others, "award": name not in ROLES}


# Who asks in which place: members once each, administrators in the system's name, and the system.
askers = st.sampled_from(
    [(place, name) for place in PLACES[:2] for name in ROLES]
    + [("enforced", "root"), ("legacy", "head"), ("closed", "ann"), ("enforced", None)]
)
points = st.sampled_from(["0", "1", "10", "10", "25.01", "40", "60", "0.02", "100", "0.001"])
asked = st.fixed_dictionaries(
    {
        "asker": askers,
        "recipients": st.lists(st.sampled_from(sorted(ROLES)), min_size=1, max_size=4, unique=True),
        "points": points,
        "split": st.sampled_from(["flat", "flat", "equal"]),
        "idempotency_key": st.sampled_from([None, None, "k", "l"]),
    }
).map(whole)
calls = st.lists(
    st.lists(asked, min_size=1, max_size=9, unique_by=lambda a: a["asker"]), min_size=1, max_size=3
)


@dataclass
class Town:
    """Three tenants, the same every time: an enforced one, one with budgets of old, one closed."""

    company: Company
    tenants: dict[str, UUID] = field(default_factory=dict)
    users: dict[tuple[str, str], UUID] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def founded(cls, company: Company) -> Town:
        town = cls(company)
        for name, place in (("root", "enforced"), ("head", "legacy")):
            town.users[place, name] = company.admin()
        for place in PLACES:
            mode = "legacy_fallback" if place == "legacy" else "enforced"
            points = 130 if place == "legacy" else 260
            tenant = company.tenant(points, allocation_mode=mode, name=place)
            sales = company.department(tenant, monthly_cap=90)
            for name, role in ROLES.items():
                columns = {"department_id": sales} if name in SALES else {}
                town.users[place, name] = user = company.member(tenant, role, **columns)
                town.names[str(user)] = name
            company.lend(tenant, town.users[place, "cat"], 50)
            company.lend(tenant, town.users[place, "dan"], 10)
            company.endow(tenant, sales, 60)
            for name, amount in (("eve", 30), ("fay", 10), ("bob", 70)):
                company.enrich(tenant, town.users[place, name], amount)
            town.tenants[place] = tenant
        company.world.operator.execute(
            "update tenants set is_active = false where id = %s", (town.tenants["closed"],)
        )
        return town

    def request(self, asked: dict[str, Any]) -> dict[str, Any]:
        place, name = asked["asker"]
        return {
            **asked,
            "user_id": self.users[place, name] if name else None,
            "tenant_id": self.tenants[place],
            "recipients": [str(self.users[place, each]) for each in asked["recipients"]],
            "message": "Well done",
        }

    def ask(self, *asked: dict[str, Any]) -> list[Any]:
        """What they are answered, without what is random in it."""
        outcomes = self.company.world.batch(CORE, [self.request(each) for each in asked], None)
        assert [outcome.position for outcome in outcomes] == list(range(1, len(asked) + 1))
        return [self.told(outcome.answer) or outcome.refusal for outcome in outcomes]

    def told(self, answer: dict[str, Any] | None) -> dict[str, Any] | None:
        if answer is None:
            return None
        recipients = [
            {
                **each,
                "user_id": self.names[each["user_id"]],
                "ledger_entry_id": each["ledger_entry_id"] is not None,
            }
            for each in answer["recipients"]
        ]
        return {**answer, "recognition_id": True, "recipients": recipients}

    def state(self) -> list[Any]:
        """Every account, statement and recognition."""
        rows = self.company.world.rows
        seen: list[Any] = []
        for tenant in self.tenants.values():
            seen += [
                (row["kind"], self.names.get(row["owner"]), row["balance"])
                for row in rows(
                    "select kind, split_part(account, ':', 2) as owner, balance"
                    " from ledger.accounts where book_id = %s and balance <> 0",
                    (tenant,),
                )
            ]
            seen += [
                (
                    self.names[str(row["user_id"])],
                    row["transaction_type"],
                    row["points"],
                    row["nth"],
                    row["balance_after"],
                )
                for row in rows(
                    "select *, row_number() over (partition by user_id order by created_at, id)"
                    " as nth from wallet_ledger where tenant_id = %s",
                    (tenant,),
                )
            ]
            seen += [
                (
                    self.names.get(str(row["from_user_id"])),
                    row["points"],
                    row["funded_by"],
                    row["pool_after"],
                )
                for row in rows("select * from recognitions where tenant_id = %s", (tenant,))
            ]
        return sorted(seen, key=str)


@given(calls)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_together_is_as_one_after_the_other(
    company: Company, sequence: list[list[dict[str, Any]]]
) -> None:
    together, apart = Town.founded(company), Town.founded(company)
    for call in sequence:
        assert together.ask(*call) == [answer for each in call for answer in apart.ask(each)]
    assert together.state() == apart.state()
