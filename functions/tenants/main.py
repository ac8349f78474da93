"""tenants/*: companies are opened by the platform, and set up by it or by their own managers: who
belongs to them and as what, their departments, what their people can spend points on."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID, uuid4

from msgspec import Meta

from tallybook.body import Body, Key, Name
from tallybook.caller import Caller
from tallybook.endpoint import endpoint
from tallybook.gather import Answer
from tallybook.http import Handler
from tallybook.logs import (
    TENANTS_CREATED,
    TENANTS_DEPARTMENT_SET,
    TENANTS_MEMBER_SET,
    TENANTS_REWARD_SET,
)
from tallybook.route import SERVICE, USERS, Route
from tallybook.runtime import Runtime

TENANTS: Final = "/api/v1/tenants"
STOCK_MAX: Final = 2**31 - 1

Account = Annotated[str, Meta(min_length=1, max_length=320)]
Reason = Annotated[str, Meta(max_length=1000)]
Lines = Iterable[tuple[str, Mapping[str, Any]]]


class CreateTenant(Body):
    """What the company is called, and who manages it first. An id of the caller's own makes a retry
    the same company."""

    name: Name
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] = "INR"
    currency_label: Name = "Points"
    manager_account: Account | None = None
    tenant_id: UUID | None = None
    reason: Reason | None = None


class OfTenant(Body):
    """A manager of several companies names one; so do administrators and programs."""

    tenant_id: UUID | None = None
    reason: Reason | None = None


class SetMember(OfTenant, kw_only=True):
    """Who, by id or e-mail address, and what they are now; what is left out stays as it is."""

    account: Account
    role: (
        Literal["tenant_manager", "hr_admin", "tenant_lead", "dept_lead", "manager", "employee"]
        | None
    ) = None
    department_id: UUID | None = None
    no_department: bool = False
    display_name: Annotated[str, Meta(max_length=200)] | None = None
    is_active: bool | None = None


class ListMembers(Body):
    """Whose people, in pages; a search finds part of a name."""

    tenant_id: UUID | None = None
    search: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    cursor: Key | None = None


class SetDepartment(OfTenant):
    """Which department, else a new one, and what is to be different."""

    department_id: UUID | None = None
    name: Name | None = None
    monthly_cap: Decimal | None = None
    no_cap: bool = False


class SetReward(OfTenant):
    """Which reward, else a new one, and what is to be different."""

    reward_id: UUID | None = None
    name: Name | None = None
    points_cost: Decimal | None = None
    description: Annotated[str, Meta(max_length=2000)] | None = None
    stock: Annotated[int, Meta(ge=0, le=STOCK_MAX)] | None = None
    unlimited: bool = False
    is_active: bool | None = None


def id_of_tenant(_runtime: Runtime, _caller: Caller, body: CreateTenant) -> dict[str, Any]:
    """The caller's, or a new one: a request that is sent once more opens one company. Consumes
    tenant_id."""
    return {"tenant_id": body.tenant_id or uuid4()}


def what_was_created(caller: Caller, _body: CreateTenant, answer: Answer) -> Lines:
    """One line a company."""
    fields = {name: answer[name] for name in ("tenant_id", "currency", "manager")}
    yield TENANTS_CREATED, {"created_by": caller.user_id, **fields}


create = endpoint(
    Route(
        slug="tenants/create",
        paths=(TENANTS,),
        procedure="create_tenant",
        body=CreateTenant,
        callers=USERS | SERVICE,
        writes=True,
        consumed=frozenset({"tenant_id"}),
        prepare=id_of_tenant,
        log=what_was_created,
    )
)


def setting(
    what: str, key: str, body: type[OfTenant], event: str, *fields: str, folder: str
) -> Handler:
    """What sets something of a company: at its folder a new one, below it the one that is named."""

    def what_was_set(caller: Caller, _body: OfTenant, answer: Answer) -> Lines:
        yield event, {"set_by": caller.user_id, **{name: answer[name] for name in fields}}

    return endpoint(
        Route(
            slug=f"tenants/set-{what}",
            paths=(
                f"{TENANTS}/{{tenant_id}}/{folder}",
                f"{TENANTS}/{{tenant_id}}/{folder}/{{{key}}}",
            ),
            procedure=f"set_{what}",
            body=body,
            callers=USERS | SERVICE,
            writes=True,
            log=what_was_set,
        )
    )


members = endpoint(
    Route(
        slug="tenants/members",
        paths=(f"GET {TENANTS}/members", f"GET {TENANTS}/{{tenant_id}}/members"),
        procedure="list_members",
        body=ListMembers,
        callers=USERS | SERVICE,
    )
)
set_member = setting(
    *("member", "account", SetMember, TENANTS_MEMBER_SET),
    *("tenant_id", "user_id", "role", "is_active"),
    folder="members",
)
set_department = setting(
    *("department", "department_id", SetDepartment, TENANTS_DEPARTMENT_SET),
    *("tenant_id", "department_id", "monthly_cap"),
    folder="departments",
)
set_reward = setting(
    *("reward", "reward_id", SetReward, TENANTS_REWARD_SET),
    *("tenant_id", "reward_id", "points_cost", "stock", "is_active"),
    folder="rewards",
)
