"""What commands say: progress and remarks on standard error, results on standard output.

rich is imported when the first line is printed, because `fedplant --help` shall answer at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline.interrupt import heed
from pipeline.remarks import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from pipeline.monitoring.jsonlog import LoggedBar


@lru_cache(maxsize=2)
def console(*, stderr: bool) -> Console:
    """The console of one of the two streams."""
    from rich.console import Console

    seen = (sys.stderr if stderr else sys.stdout).isatty()
    # In a file or a pipe nothing has to fit a screen; rich would assume 80 columns.
    return Console(stderr=stderr, highlight=False, soft_wrap=not seen, width=None if seen else _FILE_WIDTH)


_FILE_WIDTH = 160
_lines = False


def log_json() -> None:
    """From now on remarks and progress are JSON lines (`pipeline.monitoring.jsonlog`)."""
    global _lines
    from pipeline.monitoring import jsonlog

    jsonlog.begin()
    _lines = True


def failed(message: str, code: int) -> None:
    """The end of a command that could not do its work."""
    if _lines:
        from pipeline.monitoring import jsonlog

        jsonlog.LOG.error(message, extra={"event": "failed", "exit_code": code})
        return
    for line in printable(message).splitlines() or [""]:
        print(f"fedplant: {line}", file=sys.stderr)


def say(text: str) -> None:
    """One remark for the person watching; never part of the result."""
    if _lines:
        from pipeline.monitoring import jsonlog

        jsonlog.LOG.info(text)
        return
    console(stderr=True).print(printable(text), markup=False)


def show(result: Any) -> None:
    """The result for a person: text or anything rich can draw; text is never read as markup or as control characters."""
    from rich.console import Group

    for part in result.renderables if isinstance(result, Group) else [result]:
        if isinstance(part, Group):
            show(part)
        else:
            console(stderr=False).print(printable(part) if isinstance(part, str) else part, markup=False)


def print_json(value: Mapping[str, Any]) -> None:
    """The result as one JSON object on standard output."""
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


class Bar:
    """One line of progress; without a known total it only counts."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        """Show `done` of `total` (either may be in any unit) and a short note; an interrupt that got lost is raised here."""
        heed()
        self._progress.update(self._task, completed=done, total=total, note=note)


@contextmanager
def bar(title: str, total: float | None = None) -> Iterator[Bar | LoggedBar]:
    """A progress bar on standard error; on a pipe it prints only its final state: ✓, or ✗ where the step did not come to its end."""
    heed()
    if _lines:
        from pipeline.monitoring.jsonlog import LoggedBar

        logged = LoggedBar(title)
        yield logged
        logged.end()
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    spinner = SpinnerColumn(finished_text="✓")
    columns = (
        spinner,
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=28),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, note="")
        try:
            yield Bar(progress, task)
        except BaseException:
            spinner.finished_text = Text("✗")
            progress.tasks[0].finished_time = progress.tasks[0].elapsed
            raise
        known = progress.tasks[0].total
        progress.update(task, total=known or 1, completed=known or 1)
