"""One self-contained HTML page about a run, for people who know their plant and need not know data science.

`write_report` is all that others call, and `can_be_written` before long work. The page opens from disk, loads nothing and sends nothing.
"""

from pipeline.report.page import can_be_written, write_report

__all__ = ["can_be_written", "write_report"]
