"""What was found, for people, for programs and for docs/performance.md."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.bench import Bench, Row
from benchmarks.hosts import deno_program

PACKAGES = ("psycopg", "uvicorn", "uvloop", "httptools", "msgspec", "PyJWT", "functions-framework")


def table(rows: list[Row]) -> Table:
    """The table for the terminal."""
    shown = Table(
        "what", "against", "ratio", "goal", "ok?", title="Ratios, medians of paired rounds"
    )
    for row in rows:
        colour = {True: "green", False: "red", None: "default"}[row.ok]
        shown.add_row(row.what, row.against, ratio(row), goal(row), f"[{colour}]{ok(row)}[/]")
    return shown


def markdown(bench: Bench, machine: dict[str, Any]) -> str:
    """The same as a document. It is written by this command and by nobody's hand."""
    lines = [
        "# Measured",
        "",
        'Written by `make bench ARGS="--markdown docs/performance.md"`; do not edit. Everything'
        " is measured beside its",
        "yardstick in the same run, in turns, with fsync and synchronous_commit on. Only the"
        " ratios carry over to another machine.",
        "",
        "| what | against | ratio | goal | ok? |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.what} | {row.against} | {ratio(row)} | {goal(row)} | {ok(row)} |"
        for row in bench.rows
    ]
    plan = bench.plan
    lines += [
        "",
        f"{plan.rounds} rounds of {plan.seconds:g} s a contender, {plan.users:,} users. "
        + ", ".join(f"{name} {value}" for name, value in machine.items())
        + ".",
    ]
    lines += [f"Left out: {name} ({why})." for name, why in bench.skipped.items()]
    return "\n".join(lines) + "\n"


def machine(postgres: str) -> dict[str, Any]:
    """What it was measured on."""
    found = {
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "postgres": postgres,
    }
    for package in PACKAGES:
        found[package.lower()] = metadata.version(package)
    for name, command in (
        ("deno", [deno_program() or "deno", "--version"]),
        ("wrk", ["wrk", "-v"]),
    ):
        if shutil.which(command[0]):
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            found[name] = (done.stdout or done.stderr).split()[1]
    return found


def ratio(row: Row) -> str:
    """`1.23 x`, or a dash."""
    return "-" if row.ratio is None else f"{row.ratio:.2f} x"


def goal(row: Row) -> str:
    """`>= 2 x`, `<= 0.5 x`, or nothing."""
    if row.goal is None:
        return ""
    return f"{'≤' if row.lower else '≥'} {row.goal:g} x"


def ok(row: Row) -> str:
    """Whether the goal is met, in a word."""
    return {True: "yes", False: "no", None: ""}[row.ok]


def show(bench: Bench, console: Console) -> None:
    """Print the table, what was left out, and what must not be."""
    console.print(table(bench.rows))
    for name, why in bench.skipped.items():
        console.print(f"left out: {name}: {why}")
    for fault in bench.faults:
        console.print(f"[red]wrong:[/] {fault}")
