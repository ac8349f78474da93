"""Who sees which recognitions, page by page."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.tenants.company import Company
from tests.world import refused


def give(company: Company, giver: UUID, *recipients: UUID, **request: Any) -> str:
    """Praise, by default for everybody to see; its message."""
    request = {"message": f"No. {uuid4().hex}", **request}
    company.call("give_recognition", user_id=giver, recipients=list(recipients), **request)
    message: str = request["message"]
    return message


def shown(company: Company, user: UUID, **request: Any) -> list[str]:
    """The messages on a page, newest first."""
    page = company.call("list_recognitions", user_id=user, **request)
    return [row["message"] for row in page["recognitions"]]


def test_a_page_says_who_gave_what_to_whom(company: Company) -> None:
    tenant = company.tenant(1000)
    manager = company.member(tenant, "tenant_manager")
    group = [company.member(tenant) for _ in range(2)]
    message = give(company, manager, *group, points=10, recognition_type="group_award")
    page = company.call("list_recognitions", user_id=group[0])
    (row,) = page.pop("recognitions")
    assert page == {"next_cursor": None}
    assert row.pop("recognition_id")
    assert row.pop("created_at")
    assert row == {
        "from_user_id": str(manager),
        "recognition_type": "group_award",
        "award_tier": None,
        "message": message,
        "points": "20",
        "visibility": "public",
        "status": "active",
        "recipients": [{"user_id": str(user), "points": "10"} for user in group],
    }


def test_everybody_sees_what_is_public_and_what_is_their_own(company: Company) -> None:
    tenant, elsewhere = company.tenant(), company.tenant(name="Other")
    sales = company.department(tenant)
    giver = company.member(tenant, department_id=sales)
    colleague = company.member(tenant, department_id=sales)
    member, other = company.member(tenant), company.member(tenant)
    manager, hr = company.member(tenant, "tenant_manager"), company.member(tenant, "hr_admin")
    lead = company.member(tenant, "tenant_lead")
    stranger = company.member(elsewhere, "tenant_manager")
    public = give(company, giver, member)
    private = give(company, giver, member, visibility="private")
    inside = give(company, giver, member, visibility="department")
    nowhere = give(company, other, manager, visibility="department")
    all_ = [nowhere, inside, private, public]
    assert shown(company, member) == shown(company, giver) == [inside, private, public]
    assert shown(company, colleague) == [inside, public]
    assert shown(company, other) == [nowhere, public]
    assert shown(company, lead) == [public]
    assert shown(company, manager) == shown(company, hr) == all_
    assert shown(company, stranger) == []
    with refused("forbidden", 403):
        shown(company, stranger, tenant_id=tenant)
    with refused("forbidden", 403):
        shown(company, uuid4())


def test_what_one_gave_and_what_one_got(company: Company) -> None:
    tenant = company.tenant()
    one, other, third = (company.member(tenant) for _ in range(3))
    first, second = give(company, one, other), give(company, other, one, third)
    assert shown(company, one, scope="given") == shown(company, other, scope="received") == [first]
    assert shown(company, other, scope="given") == [second]
    assert shown(company, third, scope="received") == [second]
    assert shown(company, third, scope="given") == []


def test_what_is_revoked_only_those_see_whom_it_concerns(company: Company) -> None:
    tenant = company.tenant()
    manager = company.member(tenant, "tenant_manager")
    giver, member, other = (company.member(tenant) for _ in range(3))
    message = give(company, giver, member)
    (row,) = company.world.rows("select id from recognitions")
    company.call(
        "revoke_recognition", user_id=manager, recognition_id=row["id"], reason="Not so well done"
    )
    assert shown(company, other) == []
    for user in (giver, member, manager):
        page = company.call("list_recognitions", user_id=user)["recognitions"]
        assert [(row["message"], row["status"]) for row in page] == [(message, "revoked")]
    # Nor does who reads the table directly.
    for user, seen in ((other, 0), (giver, 1), (manager, 1)):
        session = company.world.session(autocommit=False)
        session.execute("set local role authenticated")
        session.execute(
            "select set_config('request.jwt.claims', %s, true)", (f'{{"sub": "{user}"}}',)
        )
        assert len(session.execute("select from recognitions").fetchall()) == seen
        session.rollback()


@pytest.mark.parametrize("scope", ["all", "given", "received"])
def test_pages_lead_on_whatever_comes_meanwhile(company: Company, scope: str) -> None:
    tenant = company.tenant()
    one, other = company.member(tenant), company.member(tenant)
    reader = other if scope == "received" else one
    # Seven of one moment, and seven of their own.
    batch = [
        {"user_id": company.member(tenant), "recipients": [str(other)], "message": f"b{n}"}
        for n in range(7)
    ]
    if scope != "given":
        company.world.batch("internal.give_recognition_batch", batch, None)
    given = [give(company, one, other) for _ in range(7)]
    expected = given[::-1] + ([f"b{n}" for n in range(6, -1, -1)] if scope != "given" else [])
    seen: list[str] = []
    cursor = None
    while True:
        page = company.call(
            "list_recognitions", user_id=reader, scope=scope, limit=3, cursor=cursor
        )
        seen += [row["message"] for row in page["recognitions"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        give(company, one, other)
    assert seen == expected


def test_a_page_that_holds_all_there_is_leads_nowhere(company: Company) -> None:
    tenant = company.tenant()
    one, other = company.member(tenant), company.member(tenant)
    for _ in range(3):
        give(company, one, other)
    for scope in ("all", "given"):
        page = company.call("list_recognitions", user_id=one, scope=scope, limit=3)
        assert (len(page["recognitions"]), page["next_cursor"]) == (3, None)


def test_what_makes_no_sense_is_refused(company: Company) -> None:
    user = company.member(company.tenant())
    wrong: list[tuple[str, Any]] = [("scope", "theirs"), ("limit", 0), ("limit", 101)]
    wrong += [("cursor", "x"), ("cursor", "_" * 32)]
    for name, value in wrong:
        with refused("invalid_body", 400, f"{name}: "):
            shown(company, user, **{name: value})
