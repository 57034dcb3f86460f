"""Compared recipes as a table; the same values that `--json` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.cli.tables import number, plain_table
from pipeline.evaluation.metrics import Metrics

if TYPE_CHECKING:
    from pipeline.jobs.comparison import Comparison

_JUDGED: tuple[tuple[str, str, int], ...] = (
    ("AUC-PR", "auc_pr", 3),
    ("AUC-ROC", "auc_roc", 3),
    ("VUS-PR", "vus_pr", 3),
    ("F1", "f1", 3),
    ("found", "event_recall", 3),
    ("false/week", "false_alarms_per_week", 1),
)
_COUNTED: tuple[tuple[str, str, int], ...] = (
    ("alarms/day", "alarms_per_day", 2),
    ("flagged", "flagged_share", 4),
)


def comparison_table(outcome: Comparison) -> Any:
    """Every recipe's mean figures, best mean rank first; without labels in the order asked for."""
    from rich.console import Group

    ranks = outcome.ranks
    figures = _JUDGED if ranks else _COUNTED
    table = plain_table("recipe", ("rank", *(title for title, _, _ in figures), "s"))
    remarks = []
    for name in sorted(outcome.recipes, key=lambda each: ranks.get(each, float("inf"))):
        of = outcome.recipes[name]
        mean = of.evaluation.mean.get(name, Metrics())
        values = (number(getattr(mean, key), digits) for _, key, digits in figures)
        table.add_row(name, number(ranks.get(name), 2), *values, number(of.seconds, 0))
        remarks += [f"{name} could not be learned: {of.failed}"] if of.failed else []
    return Group(table, *remarks, *(f"note: {note}" for note in outcome.notes))
