"""Sites whose update cannot be a step of the same training, and sites whose update would outweigh the others'."""

from __future__ import annotations

import math
from collections.abc import Mapping

FACTOR = 100.0
"""An update this many times as long as those of the other sites is not explained by other data."""
LONGEST = 3.0
"""An update more than this many times as long as a typical one is made as long as that. Honest ones are at most twice as long
(`benchmarks/poisoned_site.py`)."""
FEWEST = 3
"""With fewer sites nobody can say which of them is wrong."""


def typical_lengths(norms: Mapping[str, float], steps: Mapping[str, int]) -> dict[str, float]:
    """How long each site's update would be if it moved like the other sites' median one; empty with fewer than three sites.

    Updates grow with the number of steps: at least like a random walk, by its square root, at most in proportion. A site
    is held against whichever of the two leaves it more.
    """
    if len(norms) < FEWEST:
        return {}
    found = {}
    for site in norms:
        others = []
        for other, norm in norms.items():
            ratio = max(1, steps[site]) / max(1, steps[other])
            if other != site:
                others.append(norm * max(ratio, math.sqrt(ratio)))
        # Of an even number the longer: one that says nothing must not make the honest look long.
        found[site] = sorted(others)[len(others) // 2]
    return found


def diverged(norms: Mapping[str, float], steps: Mapping[str, int]) -> dict[str, str]:
    """Give the sites whose update is far too long, with the reason."""
    typical = typical_lengths(norms, steps)
    return {
        site: f"its update diverged: {norms[site] / usual:.3g} times as long as a typical site's"
        for site, usual in typical.items()
        if norms[site] > FACTOR * usual > 0
    }


def too_long(norms: Mapping[str, float], steps: Mapping[str, int]) -> dict[str, float]:
    """Give the sites whose update would outweigh the others', with the length that it may have."""
    typical = typical_lengths(norms, steps)
    return {site: usual for site, usual in typical.items() if norms[site] > LONGEST * usual > 0}
