"""How long work tells whoever watches what it is doing; the command line draws it, tests listen to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Step(Protocol):
    """One step of a job that is under way."""

    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        """`done` of `total` in any unit (no total: unknown), with a short note such as the current loss."""


class Watch(Protocol):
    """Somebody who watches a job."""

    def say(self, text: str) -> None:
        """A remark that stays on the screen."""

    def step(self, title: str) -> AbstractContextManager[Step]:
        """A step begins; it ends with the context."""


class _NoStep:
    def update(self, done: float, total: float | None = None, note: str = "") -> None:
        return None


class SilentWatch:
    """Watches without a word; remarks are kept in `said`."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[str] = []

    def say(self, text: str) -> None:
        """Keep the remark."""
        self.said.append(text)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Keep the title."""
        self.steps.append(title)
        yield _NoStep()
