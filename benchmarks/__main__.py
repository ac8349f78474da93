"""`python -m benchmarks`: run the measures, print the ratios, write them down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from benchmarks import (
    attestation,
    credits,
    functions,
    hot_pool,
    ledger,
    procedures,
    report,
    tenants,
    usage,
)
from benchmarks.bench import FULL, QUICK, Bench, Plan
from benchmarks.pgbench import Missing
from benchmarks.stand import stand

JSON = Path("build/bench.json")

MEASURES: dict[str, Callable[[Bench], None]] = {
    "submit": procedures.submit,
    "redeem": procedures.redeem,
    "validate": procedures.validate,
    "post": ledger.post,
    "attest": attestation.verify,
    "usage": usage.statistics,
    "credits": credits.charge,
    "hot-pool": hot_pool.hot_pool,
    "tenants": tenants.reads,
    "http-submit": functions.submit,
    "http-redeem": functions.redeem,
    "http-validate": functions.validate,
    "http-credits": credits.http,
}


def measure(
    plan: Plan, only: Sequence[str] = (), say: Callable[[str], None] = lambda _: None
) -> tuple[Bench, dict[str, Any]]:
    """Run the named measures, or all; what was found, and the machine it was found on."""
    began = time.perf_counter()
    load = os.getloadavg()[0]
    with stand(plan.users) as found:
        bench = Bench(found, plan)
        for name, run in MEASURES.items():
            if only and name not in only:
                continue
            say(f"{time.perf_counter() - began:5.0f} s  {name}")
            try:
                run(bench)
            except Missing as missing:
                bench.skipped[name] = str(missing)
        return bench, {**report.machine(found.version), "load before": round(load, 1)}


def main(
    quick: Annotated[bool, typer.Option(help="Short rounds: a look, not a figure.")] = False,
    json: Annotated[Path, typer.Option(help="Write every number here.")] = JSON,
    markdown: Annotated[Path | None, typer.Option(help="Write the table here.")] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"Of: {', '.join(MEASURES)}.")] = None,
) -> None:
    """Measure Tallybook beside its yardsticks. Exits 1 when the figures cannot be trusted."""
    unknown = set(only or ()) - set(MEASURES)
    if unknown:
        raise typer.BadParameter(f"no measure is called {', '.join(sorted(unknown))}")
    progress = Console(stderr=True)
    bench, machine = measure(QUICK if quick else FULL, only or (), progress.print)
    report.show(bench, Console())
    json.parent.mkdir(parents=True, exist_ok=True)
    json.write_bytes(msgspec.json.format(msgspec.json.encode(document(bench, machine))))
    progress.print(f"Every number is in {json}")
    if markdown is not None:
        markdown.write_text(report.markdown(bench, machine))
    if bench.faults:
        raise typer.Exit(1)


def document(bench: Bench, machine: dict[str, Any]) -> dict[str, Any]:
    """The JSON document: machine, plan, rows, raw samples, what was left out, faults."""
    return {"machine": machine, **bench.results()}


if __name__ == "__main__":
    typer.run(main)
