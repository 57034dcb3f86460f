"""The command line's way of watching a job: remarks and progress bars on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.cli.console import bar, say
from pipeline.watch import Step


class JobWatch:
    """Draws every step of a job as one line of progress."""

    def say(self, text: str) -> None:
        """Print a remark."""
        say(text)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Draw one step."""
        with bar(title) as drawn:
            yield drawn
