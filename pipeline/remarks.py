"""Remarks on sites for people: the same remark on many sites is one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_MOST = 5
"""Sites that a line names; a fleet of a thousand must not fill the screen."""


def listed(names: Iterable[str], most: int = _MOST) -> str:
    """Names for a line: all of them, or the first `most` and how many more.

    >>> listed(["east", "north", "west"], most=2)
    'east, north and 1 more'
    """
    every = list(names)
    rest = len(every) - most
    return ", ".join(every[:most]) + (f" and {rest} more" if rest > 0 else "")


def printable(text: str, keep: str = "\n\t") -> str:
    """Text in which nothing moves the cursor or recolours the screen: names come from topics, and anybody may have written them.

    >>> printable("pump\\x1b[2J\\u202e")
    'pump\\\\x1b[2J\\\\u202e'
    """
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def together(remarks: Mapping[str, str] | Iterable[tuple[str, str]]) -> list[str]:
    """One line a remark, led by the sites it is on; in the order of the first site of each.

    >>> together([("east", "no data"), ("north", "too short"), ("west", "no data")])
    ['east, west: no data', 'north: too short']
    """
    sites: dict[str, list[str]] = {}
    for site, remark in remarks.items() if isinstance(remarks, Mapping) else remarks:
        sites.setdefault(remark, []).append(site)
    return [f"{listed(each)}: {remark}" for remark, each in sites.items()]
