"""History: what a file tells, brought into the book at the times at which it happened.

Points that were earned, and models that were used. A file is read as a stream and sent in chunks,
each one procedure call and one transaction. A line becomes an event, is known already, or is
reported and left out; the report's numbers add up to the lines read. Whatever stops an import,
importing the file again finishes it.
"""

from tallybook.history.importing import import_file
from tallybook.history.plan import Import, Tally
from tallybook.history.points import Columns, Plan, Report, Rounding
from tallybook.history.records import Fault, HistoryError
from tallybook.history.usage import UsageColumns, UsagePlan, UsageReport
from tallybook.history.values import user_namespace

__all__ = [
    "Columns",
    "Fault",
    "HistoryError",
    "Import",
    "Plan",
    "Report",
    "Rounding",
    "Tally",
    "UsageColumns",
    "UsagePlan",
    "UsageReport",
    "import_file",
    "user_namespace",
]
