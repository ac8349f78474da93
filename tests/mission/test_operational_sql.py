"""S1-072 to S1-090, S3-046 to S3-073: each query of the runbooks is a function of ours, and also
runs as printed.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import pytest

from tests.points import test_seed_audits
from tests.tenants import test_tenant_reports
from tests.world import World


class Line(NamedTuple):
    """What answers a line: functions in public, and the tests that run what is printed."""

    functions: tuple[str, ...]
    printed: tuple[str, ...]


LINES = {
    72: Line(("report_events_by_status",), ("event_validation_rate",)),
    73: Line(("report_rejections_by_type",), ("error_rates",)),
    74: Line(("report_coupons_by_status",), ("coupon_redemptions",)),
    75: Line(("report_totals",), ("totals",)),
    76: Line(
        ("report_balance_audit",),
        ("the_balance_audit_finds_nothing", "the_balance_audit_finds_what_is_wrong"),
    ),
    77: Line(("report_coupon_codes",), ("every_coupon_code_is_hashed",)),
    78: Line(("report_coupon_codes",), ("no_coupon_code_is_there_twice",)),
    79: Line(("report_queue",), ("few_events_are_stale",)),
    80: Line(("report_queue",), ("events_of_the_last_hour",)),
    81: Line(("report_stuck_events",), ("few_events_are_stale",)),
    82: Line(
        ("report_balance", "refresh_user_points_cache"),
        ("cached_and_actual_points_of_one_user", "bulk_refresh"),
    ),
    83: Line(("report_insights_by_type",), ("fraud_of_the_last_day",)),
    84: Line(("report_balance", "report_history"), ("why_a_redemption_fails",)),
    85: Line(("report_damage",), ("damage_since_a_deployment",)),
    86: Line(
        ("suspend_points", "resume_points"),
        ("partial_rollback_keeps_the_data_and_stops_the_features",),
    ),
    87: Line(
        ("award_points", "refresh_user_points_cache"),
        ("points_are_awarded_by_hand",),
    ),
    88: Line(
        ("revoke_coupon", "refund_coupon"),
        ("a_coupon_is_revoked_and_its_points_are_given_back",),
    ),
    89: Line(("report_history",), ("a_users_history",)),
    90: Line(("record_migration",), ("a_migration_is_written_down",)),
}
OF_TENANTS = {
    46: Line(("report_allocations",), ("the_first_day",)),
    47: Line(
        ("report_tenant_totals", "report_tenants_below_zero", "report_allocations"),
        ("the_daily_check", "nothing_is_below_zero", "the_latest_allocations"),
    ),
    48: Line(
        ("report_allocations_by_day", "report_tenant_balances"),
        ("allocation_activity", "tenant_activity"),
    ),
    49: Line(
        ("report_allocations_by_week", "report_top_tenants"), ("the_weekly_summary", "top_tenants")
    ),
    50: Line(
        ("report_large_allocations", "report_tenants_below_zero", "report_clawbacks"),
        ("what_is_looked_at_monthly", "nothing_is_below_zero"),
    ),
    51: Line(("report_usage_by_tenant",), ("what_is_looked_at_quarterly",)),
    52: Line(("report_tenant_audit",), ("the_yearly_audit_finds_what_is_wrong",)),
    69: Line(("report_usage_by_tenant",), ("usage_by_tenant",)),
    72: Line(("report_allocations",), ("the_latest_hundred_of_a_tenant_come_by_an_index",)),
    73: Line(
        ("report_allocations", "report_billing", "report_tenant_balances"),
        ("the_audit_queries", "nothing_is_below_zero"),
    ),
}
SYSTEMS = [
    *(pytest.param(LINES[line], test_seed_audits, id=f"S1-{line:03}") for line in LINES),
    *(pytest.param(OF_TENANTS[n], test_tenant_reports, id=f"S3-{n:03}") for n in OF_TENANTS),
]


def test_no_line_is_forgotten() -> None:
    assert list(LINES) == list(range(72, 91))
    assert list(OF_TENANTS) == [*range(46, 53), 69, 72, 73]


@pytest.mark.parametrize(("line", "tests"), SYSTEMS)
def test_an_operator_has_its_function(world: World, line: Line, tests: ModuleType) -> None:
    for name in line.functions:
        rows = world.rows(
            "select has_function_privilege('tallybook_operator', p.oid, 'execute') as callable"
            " from pg_proc as p where p.pronamespace = 'public'::regnamespace and p.proname = %s",
            (name,),
        )
        assert [row["callable"] for row in rows] == [True], name


@pytest.mark.parametrize(("line", "tests"), SYSTEMS)
def test_what_is_printed_is_run_by_a_test(line: Line, tests: ModuleType) -> None:
    for name in line.printed:
        assert callable(getattr(tests, f"test_{name}", None)), name


def test_every_report_belongs_to_a_line_or_is_known_to_go_beyond(world: World) -> None:
    reports = world.rows(
        "select proname::text as name from pg_proc"
        " where pronamespace = 'public'::regnamespace and proname like 'report\\_%%'"
    )
    lines = (*LINES.values(), *OF_TENANTS.values())
    of_lines = {name for line in lines for name in line.functions}
    # "Top redeemed templates", S1-015; the credit system's own signals, S2-050.
    beyond = {row["name"] for row in reports} - of_lines
    assert {name for name in beyond if not name.startswith("report_credit_")} == {
        "report_templates"
    }
