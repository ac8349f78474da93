"""Companies for the load: whom they employ, what their people can buy, and what the books hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, LiteralString
from uuid import UUID, uuid4

import psycopg

from tests.reliability.model import ZERO, Life, Seat
from tests.world import Connection

PEOPLE: Final = 16
MANAGERS: Final = ("tenant_manager", "hr_admin")
LEADS: Final = ("tenant_lead", "dept_lead", "manager")
OFFICES: Final = (*MANAGERS, *LEADS)  # of the first people; the others are employees
REWARDS: Final = (("Mug", "0.50", None), ("Voucher", "9.99", None), ("Balloon", "0.05", 3))
"""What each costs, and how many there are."""

Row = dict[str, Any]
Move = tuple[UUID, str, str, Decimal]  # a transfer's id, where from, where to, how much

TABLES: Final[dict[str, LiteralString]] = {
    "tenants": "select *, id as tenant_id from tenants where id = any(%s)",
    "members": "select * from tenant_members where tenant_id = any(%s)",
    "wallets": "select tenant_id, user_id, balance, lifetime_earned, lifetime_spent from wallets"
    " where tenant_id = any(%s)",
    "rewards": "select * from rewards where tenant_id = any(%s)",
    "allocations": "select * from allocation_logs where tenant_id = any(%s)",
    "bills": "select * from platform_billing_logs where tenant_id = any(%s)",
    "delegations": "select * from lead_delegations where tenant_id = any(%s)",
    "recognitions": "select * from recognitions where tenant_id = any(%s)",
    "recipients": "select * from recognition_recipients where tenant_id = any(%s) order by place",
    "redemptions": "select * from reward_redemptions where tenant_id = any(%s)",
    "entries": "select * from wallet_ledger where tenant_id = any(%s)",
    "transfers": "select *, book_id as tenant_id from ledger.transfers where book_id = any(%s)",
    "accounts": "select *, book_id as tenant_id from ledger.accounts where book_id = any(%s)",
}


@dataclass(slots=True)
class Firm:
    """One company. Its people share a pool, and so nobody knows alone what it holds."""

    tenant: UUID
    lives: Sequence[Life]

    @property
    def known(self) -> bool:
        """Whether its people know what became of everything."""
        return all(life.known for life in self.lives)


def employ(dsn: str, lives: Sequence[Life], credentials: Callable[[UUID], str]) -> list[Firm]:
    """Give these lives places in new companies, which survive also where what comes is forgotten.

    Each company has an administrator of its own, so that nobody waits for those of others.
    """
    with psycopg.connect(dsn) as connection:
        connection.execute("set synchronous_commit = on")
        connection.execute("update allocation_limits set allocations_per_hour_max = null")
        return [
            _found(connection, lives[begin : begin + PEOPLE], credentials)
            for begin in range(0, len(lives), PEOPLE)
        ]


def _found(
    connection: psycopg.Connection[Any], lives: Sequence[Life], credentials: Callable[[UUID], str]
) -> Firm:
    tenant, administrator = uuid4(), uuid4()
    roles = [*OFFICES, *["employee"] * len(lives)][: len(lives)]
    connection.execute("insert into system_admins (id) values (%s)", (administrator,))
    connection.execute("insert into tenants (id, name) values (%s, 'Acme')", (tenant,))
    connection.execute(
        "insert into tenant_members (tenant_id, user_id, role) select %s, u.id, u.role"
        " from unnest(%s::uuid[], %s::text[]) as u(id, role)",
        (tenant, [life.user for life in lives], roles),
    )
    rewards = {str(uuid4()): (name, Decimal(cost), stock) for name, cost, stock in REWARDS}
    for id, reward in rewards.items():
        connection.execute(
            "insert into rewards (tenant_id, id, name, points_cost, stock)"
            " values (%s, %s, %s, %s, %s)",
            (tenant, id, *reward),
        )
    leads = tuple(life.user for life, role in zip(lives, roles, strict=True) if role in LEADS)
    for life, role in zip(lives, roles, strict=True):
        life.seat = Seat(
            tenant,
            role,
            tuple(one.user for one in lives if one is not life),
            tuple(lead for lead in leads if lead != life.user),
            {id: cost for id, (_, cost, _) in rewards.items()},
            credentials(administrator),
        )
    return Firm(tenant, lives)


@dataclass(slots=True)
class Books:
    """What the database holds of one company, in one snapshot."""

    tenants: list[Row] = field(default_factory=list)
    members: list[Row] = field(default_factory=list)
    wallets: list[Row] = field(default_factory=list)
    rewards: list[Row] = field(default_factory=list)
    allocations: list[Row] = field(default_factory=list)
    bills: list[Row] = field(default_factory=list)  # the platform's trail of the pool
    delegations: list[Row] = field(default_factory=list)
    recognitions: list[Row] = field(default_factory=list)
    recipients: list[Row] = field(default_factory=list)
    redemptions: list[Row] = field(default_factory=list)
    entries: list[Row] = field(default_factory=list)  # the wallets' statements
    transfers: list[Row] = field(default_factory=list)
    accounts: list[Row] = field(default_factory=list)
    given: dict[UUID, list[Row]] = field(default_factory=dict)  # of each recognition, with entries
    held: dict[str, set[Decimal]] = field(default_factory=dict)  # what an account ever held

    @staticmethod
    def read(connection: Connection, tenants: Sequence[UUID]) -> dict[UUID, Books]:
        """Those of these companies."""
        found = {tenant: Books() for tenant in tenants}
        for name, query in TABLES.items():
            for row in connection.execute(query, (list(tenants),)):
                getattr(found[row["tenant_id"]], name).append(row)
        return found

    def counted(self) -> dict[str, list[Row]]:
        """What is counted in the end, by the tables' names."""
        return {
            "recognitions": self.recognitions,
            "recognition_recipients": self.recipients,
            "reward_redemptions": self.redemptions,
            "lead_delegations": self.delegations,
            "platform_billing_logs": self.bills,
            "allocation_logs": self.allocations,
            "wallet_ledger": self.entries,
            "ledger.transfers": self.transfers,
        }

    def index(self) -> None:
        """Read first what is looked up often: who got what, and what accounts held."""
        entries = {(row["id"], row["user_id"]): row for row in self.entries}
        self.given = defaultdict(list)
        for row in self.recipients:
            entry = entries.get((row["entry_id"], row["user_id"]), {})
            self.given[row["recognition_id"]].append({**row, "entry": entry})
        owners = {f"tenant.wallet:{row['user_id']}" for row in self.entries}
        self.held = defaultdict(lambda: {ZERO})
        for account in ("tenant.pool", *owners):
            self.held[account] |= {after for _, after in self.steps(account)}

    def stated(self) -> Iterator[Move]:
        """Each movement there must have been, as the logs tell it."""
        for bill in self.bills:
            yield _signed(bill["id"], "tenant.platform", "tenant.pool", bill["amount"])
        for row in self.delegations:
            lead = f"tenant.lead:{row['lead_user_id']}"
            yield _signed(row["id"], "tenant.pool", lead, row["amount"])
        sources = {row["id"]: paid_by(row) for row in self.recognitions}
        for row in self.recipients:
            wallet = f"tenant.wallet:{row['user_id']}"
            yield row["entry_id"], sources.get(row["recognition_id"], ""), wallet, row["points"]
        for row in self.redemptions:
            wallet = f"tenant.wallet:{row['user_id']}"
            yield row["entry_id"], wallet, "tenant.redeemed", row["points"]
        for row in self.refunded():
            wallet = f"tenant.wallet:{row['user_id']}"
            yield row["id"], "tenant.redeemed", wallet, row["points"]

    def refunded(self) -> list[Row]:
        """The redemptions whose points went back."""
        return [row for row in self.redemptions if row["status"] == "refunded"]

    def moved(self) -> Iterator[Move]:
        """Each movement there was, by the ledger."""
        for row in self.transfers:
            amount = Decimal(row["amount"]) / 100
            yield row["transfer_id"], row["from_account"], row["to_account"], amount

    def net(self) -> Counter[str]:
        """What the transfers come to, of every account, counterparties too: hundredths."""
        net = Counter[str]()
        for row in self.transfers:
            net[row["from_account"]] -= row["amount"]
            net[row["to_account"]] += row["amount"]
        return net

    def steps(self, account: str) -> list[tuple[Decimal, Decimal]]:
        """From what to what a pool or a wallet went, as the logs tell it, in no order."""
        if account == "tenant.pool":
            told = [
                *((-row["amount"], row["balance_after"]) for row in self.bills),
                *((row["amount"], row["pool_balance"]) for row in self.delegations),
                *(
                    (row["points"], row["pool_after"])
                    for row in self.recognitions
                    if row["funded_by"] == "pool"
                ),
            ]
        else:
            told = [
                (-row["points"] if row["transaction_type"] == "credit" else row["points"],
                 row["balance_after"])
                for row in self.entries
                if account == f"tenant.wallet:{row['user_id']}"
            ]  # fmt: skip
        return [(after + taken, after) for taken, after in told]


def paid_by(recognition: Row) -> str:
    """The account that paid for it."""
    kind = recognition["funded_by"]
    owner = "" if kind == "pool" else f":{recognition['from_user_id']}"
    return f"tenant.{kind}{owner}"


def _signed(id: UUID, source: str, target: str, amount: Decimal) -> Move:
    return (id, source, target, amount) if amount > 0 else (id, target, source, -amount)
