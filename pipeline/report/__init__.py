"""One self-contained HTML page about a run, for people who know their plant and need not know data science.

`write_report` is all that others call. The page opens from disk, loads nothing and sends nothing.
"""

from pipeline.report.page import write_report

__all__ = ["write_report"]
