"""History: the points of a file, brought into the book at the times at which they were earned.

A file is read as a stream and sent in chunks, each one procedure call and one transaction. A line
becomes an event, is known already, or is reported and left out; the report's numbers add up to the
lines read. Whatever stops an import, importing the file again finishes it.
"""

from tallybook.history.events import Rounding, user_namespace
from tallybook.history.importing import Plan, Report, import_file
from tallybook.history.records import Columns, Fault, HistoryError

__all__ = [
    "Columns",
    "Fault",
    "HistoryError",
    "Plan",
    "Report",
    "Rounding",
    "import_file",
    "user_namespace",
]
