"""Acceptance tests drive real clients and tools against the gateway: `make acceptance`.

Everything in this folder carries the marker `acceptance`. With TALLYBOOK_NO_SKIPS=1 in the
environment, as in continuous integration, a skip counts as a failure.
"""

import os
from collections.abc import Generator

import pytest

NO_SKIPS = os.environ.get("TALLYBOOK_NO_SKIPS") == "1"


def pytest_itemcollected(item: pytest.Item) -> None:
    """The folder is the marker, so that no test is left out of either run by a slip."""
    item.add_marker(pytest.mark.acceptance)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that skips itself, in its set-up as well as in its body."""
    report = yield
    # An expected failure is reported as skipped too, and says so in `wasxfail`.
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that skips itself before any of its tests is known."""
    report = yield
    if NO_SKIPS and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} was skipped: {reason(report.longrepr)}"
    return report


def reason(longrepr: object) -> str:
    """The reason given to `pytest.skip`; pytest keeps it as (path, line, reason)."""
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
