"""What exists only on a developer's machine and in CI: an embedded Postgres, a gateway, a demo.

Nothing imports this package but `tallybook.cli` and the tests.
"""
