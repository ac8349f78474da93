"""Tallybook: a server-authoritative book of points, credits and coupons on plain Postgres.

This package is the corridor that every request walks (`tallybook.endpoint`), the one way to
the database (`tallybook.database`) and the operator's command line (`tallybook.cli`).
The rules about value live in `sql/`, not here.
"""

from typing import Final

__version__: Final = "0.1.0"
