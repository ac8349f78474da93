"""Runnable examples: SQL scripts with their output, and real history imported and spent."""
