"""What was odd in the columns of an export, as remarks; the same on many columns is one line."""

from __future__ import annotations

from dataclasses import dataclass, field

_MOST = 5
"""Columns that a remark names, and lines that one kind of remark takes; an export of four hundred tags must not fill the screen."""


@dataclass
class Tolerated:
    """Columns (or sensors: `noun`) by what is odd about them, in the order of the file.

    Attributes:
      noun: what a remark calls one of them.
      ignored: those that are left out, and why.
      text: cells that are not numbers, by column.
      infinite: infinite values, by column.
      empty: those without any value.
    """

    noun: str = "column"
    ignored: dict[str, str] = field(default_factory=dict)
    text: dict[str, int] = field(default_factory=dict)
    infinite: dict[str, int] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)

    def remarks(self) -> list[str]:
        """One line a column, or one for all of a kind if they are many."""
        return [
            *self._lines(
                {name: f" {why}; it was ignored" for name, why in self.ignored.items()},
                "were ignored: mostly text",
            ),
            *self._lines(
                {
                    name: f": {n} cells are not numbers; they count as missing"
                    for name, n in self.text.items()
                },
                f"hold {sum(self.text.values()):,} cells that are not numbers; they count as missing",
            ),
            *self._lines(
                {name: f": {n} infinite values; they count as missing" for name, n in self.infinite.items()},
                f"hold {sum(self.infinite.values()):,} infinite values; they count as missing",
            ),
            *self._lines(dict.fromkeys(self.empty, " has no value at all"), "have no value at all"),
        ]

    def _lines(self, each: dict[str, str], together: str) -> list[str]:
        if len(each) <= _MOST:
            return [f"{self.noun} {name!r}{what}" for name, what in each.items()]
        named = ", ".join(repr(name) for name in list(each)[:_MOST])
        return [f"{len(each)} {self.noun}s {together} ({named} and {len(each) - _MOST} more)"]
