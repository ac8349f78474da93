"""The operator's command line: `tallybook <command>`. One module a command.

Exit codes: 0 done; 1 refused, or faults found; 2 wrong usage or configuration, or no database.
"""

from __future__ import annotations

import typer

from tallybook.cli import (
    admin,
    attestation,
    config,
    coupon,
    credits,
    migrate,
    partner,
    points,
    price,
    promotion,
    review,
    tenant,
    trust,
)
from tallybook.cli.award import award
from tallybook.cli.backtest import backtest
from tallybook.cli.db_url import db_url
from tallybook.cli.dev import dev
from tallybook.cli.history import history
from tallybook.cli.import_history import import_history
from tallybook.cli.import_usage import import_usage
from tallybook.cli.refresh_cache import balance, refresh_cache
from tallybook.cli.report import report
from tallybook.cli.rotate_key import rotate_key
from tallybook.cli.rotate_provider_keys import rotate_provider_keys
from tallybook.cli.serve import serve
from tallybook.cli.tenant_points import adjust, allocate, clawback, reverse
from tallybook.cli.token import token
from tallybook.cli.upkeep import upkeep
from tallybook.cli.verify import verify
from tallybook.cli.worker import worker

app = typer.Typer(
    name="tallybook",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def main() -> None:
    """A server-authoritative book of points, credits and coupons on plain Postgres."""


app.command()(dev)
app.command()(serve)
app.command()(worker)
app.command()(verify)
app.command()(balance)
app.command("refresh-cache")(refresh_cache)
# Points may be below zero, and `-50` is no option.
app.command(context_settings={"ignore_unknown_options": True})(award)
# A balance below zero is refused, and no option.
app.command(context_settings={"ignore_unknown_options": True})(adjust)
tenant.app.command()(allocate)
tenant.app.command()(clawback)
tenant.app.command()(reverse)
tenant.app.command(context_settings={"ignore_unknown_options": True})(adjust)
app.command()(history)
app.command()(report)
app.command()(backtest)
app.command()(upkeep)
app.command("rotate-key")(rotate_key)
app.command("rotate-provider-keys")(rotate_provider_keys)
app.command()(token)
app.command("db-url")(db_url)
app.command("import")(import_history)
app.command("import-usage")(import_usage)
app.add_typer(coupon.app, name="coupon")
app.add_typer(credits.app, name="credits")
app.add_typer(points.app, name="points")
app.add_typer(price.app, name="price")
app.add_typer(promotion.app, name="promotion")
app.add_typer(review.app, name="review")
app.add_typer(tenant.app, name="tenant")
app.add_typer(trust.app, name="trust")
app.add_typer(attestation.app, name="attestation")
app.add_typer(admin.app, name="admin")
app.add_typer(partner.app, name="partner")
app.add_typer(migrate.app, name="migrate")
app.add_typer(config.app, name="config")
