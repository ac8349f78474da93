"""Movements of tenants' points in sets: what is refused or known changes nothing.

After every test the fixture proves that pools, budgets, wallets and statements equal the ledger.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from tests.tenants.company import Company

MOVES = (
    "select o.position, o.outcome, internal.points_text(o.from_balance) as left_over,"
    " internal.points_text(o.to_balance) as reached"
    " from internal.move_tenant_points(array("
    "  select internal.tenant_move(m.tenant_id, m.from_account, m.to_account, m.amount, 'test',"
    "    'test', m.id, m.id, p_wallet_source => 'adjustment')"
    "  from unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::numeric[])"
    "    with ordinality as m(tenant_id, id, from_account, to_account, amount, place)"
    "  order by m.place)) as o order by o.position"
)

Move = tuple[UUID, UUID, str, str, int]


def moved(company: Company, *moves: Move) -> list[tuple[Any, ...]]:
    """Outcome and what the two accounts held then of each movement, in their order."""
    columns = [list(column) for column in zip(*moves, strict=True)]
    session = company.world.session()
    # What a superuser writes into a budget counts as written by hand, and the ledger would follow.
    session.execute("set role tallybook_upkeep")
    rows = company.world.rows(MOVES, tuple(columns), session)
    assert [row["position"] for row in rows] == list(range(1, len(moves) + 1))
    return [(row["outcome"], row["left_over"], row["reached"]) for row in rows]


def test_what_is_refused_in_a_set_leaves_no_trace(company: Company) -> None:
    tenant, elsewhere = company.tenant(10), company.tenant(10, name="Other")
    lead, user, nobody = uuid4(), uuid4(), uuid4()
    for place in (tenant, elsewhere):
        company.member(place, "dept_lead", user_id=lead)
    department = company.department(tenant)
    company.department(elsewhere, id=department)
    lead_, wallet, budget = (
        f"tenant.lead:{lead}",
        f"tenant.wallet:{user}",
        f"tenant.budget:{department}",
    )
    assert moved(
        company,
        (tenant, uuid4(), "tenant.pool", lead_, 4),
        (tenant, uuid4(), "tenant.pool", wallet, 7),
        (elsewhere, uuid4(), "tenant.pool", lead_, 4),
        (tenant, uuid4(), f"tenant.wallet:{nobody}", "tenant.redeemed", 1),
        (tenant, uuid4(), "tenant.pool", budget, 5),
        (tenant, uuid4(), lead_, wallet, 1),
        (tenant, uuid4(), wallet, "tenant.redeemed", 1),
        (tenant, uuid4(), wallet, "tenant.redeemed", 1),
        (elsewhere, uuid4(), "tenant.pool", wallet, 2),
        (tenant, uuid4(), "tenant.pool", wallet, 1),
    ) == [
        ("posted", "6", "4"),
        ("insufficient_funds", None, None),
        ("posted", "6", "4"),
        ("insufficient_funds", None, None),
        ("posted", "1", "5"),
        ("posted", "3", "1"),
        ("posted", "0", None),
        ("insufficient_funds", None, None),
        ("posted", "4", "2"),
        ("posted", "0", "1"),
    ]
    assert company.world.count("wallets", "user_id = %s", nobody) == 0
    (row,) = company.world.rows(
        "select lifetime_earned as earned, lifetime_spent as spent"
        " from wallets where tenant_id = %s",
        (tenant,),
    )
    assert (int(row["earned"]), int(row["spent"])) == (2, 1)
    assert len(company.statement(tenant, user)) == 3
    # Each statement is of the wallet in its own tenant.
    assert company.world.count("wallet_ledger") == 4
    assert (
        company.world.count(
            "wallet_ledger as l join wallets as w using (tenant_id, user_id)", "l.wallet_id = w.id"
        )
        == 4
    )


def test_a_movement_again_amid_new_ones_moves_nothing(company: Company) -> None:
    tenant, user, friend = company.tenant(10), uuid4(), uuid4()
    wallet, other = f"tenant.wallet:{user}", f"tenant.wallet:{friend}"
    known = (tenant, uuid4(), "tenant.pool", wallet, 2)
    assert moved(company, known) == [("posted", "8", "2")]
    assert moved(
        company,
        (tenant, uuid4(), "tenant.pool", wallet, 3),
        known,
        (tenant, uuid4(), wallet, other, 4),
    ) == [("posted", "5", "5"), ("replayed", None, None), ("posted", "1", "4")]
    assert moved(company, known, known) == [("replayed", None, None)] * 2
    told = {row[1:] for row in company.statement(tenant, user)}
    assert told == {("2", "2"), ("3", "5"), ("-4", "1")}
    assert [row[1:] for row in company.statement(tenant, friend)] == [("4", "4")]
