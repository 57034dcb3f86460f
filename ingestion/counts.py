"""What became of every row, per site. Nothing is lost silently: the numbers of a run add up.

`read = kept + late + duplicate + dead_lettered + already_handled + left_open`, in rows; a message that became a dead
letter counts as one row. `already_handled` was read again after a restart and is on disk; `left_open` belongs to windows
that are still open (or were dropped with a lost partition) and is read again by the next run.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ingestion.mapping import by_sensor


@dataclass
class SiteCounts:
    """Counters of one site in one run. `late` = rows in addenda plus `late_topic` (rows beyond the allowed lateness).

    `messages` counts each offset once: what the process, or by the group's last commit anyone before it, had read already is in
    `messages_again`. Rows are counted as often as they are read, and then are `already_handled` or were `left_open`.
    """

    messages: int = 0
    messages_again: int = 0
    read: int = 0
    kept: int = 0
    late: int = 0
    late_topic: int = 0
    duplicate: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    already_handled: int = 0
    left_open: int = 0
    windows: int = 0
    addenda: int = 0
    repaired: Counter[str] = field(default_factory=Counter)
    damaged_files: int = 0

    @property
    def dead_lettered(self) -> int:
        """Messages sent to the dead-letter topic."""
        return sum(self.dead.values())

    @property
    def balanced(self) -> bool:
        """Whether every row read has exactly one place."""
        placed = (
            self.kept
            + self.late
            + self.duplicate
            + self.dead_lettered
            + self.already_handled
            + self.left_open
        )
        return self.read == placed

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "messages": self.messages,
            "messages_again": self.messages_again,
            "read": self.read,
            "kept": self.kept,
            "late": self.late,
            "late_topic": self.late_topic,
            "duplicate": self.duplicate,
            "dead_lettered": self.dead_lettered,
            "dead_lettered_by_reason": dict(sorted(self.dead.items())),
            "future": self.dead["future_timestamp"],
            "unknown_time": self.repaired["unknown_time"],
            "already_handled": self.already_handled,
            "left_open": self.left_open,
            "windows": self.windows,
            "addenda": self.addenda,
            "repaired": {name: count for name, count in sorted(self.repaired.items()) if ":" not in name},
            "sensors": by_sensor(self.repaired),
            "damaged_files": self.damaged_files,
        }


@dataclass
class IngestReport:
    """The outcome of one run: counts by site name, and sites whose topic does not exist."""

    sites: dict[str, SiteCounts]
    missing_topics: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return {
            "sites": {name: counts.to_dict() for name, counts in self.sites.items()},
            "missing_topics": self.missing_topics,
            "seconds": round(self.seconds, 3),
        }
