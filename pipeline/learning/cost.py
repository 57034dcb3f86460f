"""What ridges over many sensors cost, said before they are fitted: their work grows with the cube of the sensors, their memory with the square."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.config.schema import Config
from pipeline.datasets.survey import SiteOutcome

_SECONDS = 20.0 / 500**3
"""Of one core, a site and a sensor cubed (`benchmarks/fit_cost.py`; a slow machine takes three times as long)."""
_BYTES = 2400.0
"""A site and a sensor squared, in the same fits."""
_WORTH_SAYING = 120.0
"""Seconds."""


def cost_of_ridges(config: Config, sensors: Sequence[str], outcomes: Iterable[SiteOutcome]) -> str | None:
    """The line for sites with these outcomes, None if the detector has no ridges or it is not worth one."""
    if not {"ridge", "stiff_ridge"} & set(config.detector.sources):
        return None
    return cost(len(each.moving(sensors)) for each in outcomes)


def cost(moving: Iterable[int]) -> str | None:
    """A line on what the ridges of sites with so many moving sensors cost, None where it is not worth one.

    >>> cost([40, 300]) is None
    True
    >>> cost([40, 1200])
    'up to 1,200 sensors move at a site: its ridges take about 5 min of a core and 3.5 GB of memory, by the cube and the square of their number (name fewer, dataset.sensors, or make a site of each machine)'
    """
    counts = list(moving)
    seconds = _SECONDS * sum(count**3 for count in counts)
    if seconds < _WORTH_SAYING:
        return None
    gigabytes = _BYTES * sum(count**2 for count in counts) / 1e9
    return (
        f"up to {max(counts):,} sensors move at a site: its ridges take about {seconds / 60:.0f} min of a core and {gigabytes:.1f} GB of memory, "
        "by the cube and the square of their number (name fewer, dataset.sensors, or make a site of each machine)"
    )
