"""Sites whose update cannot be a step of the same training."""

from __future__ import annotations

import math
from collections.abc import Mapping

FACTOR = 100.0
"""An update this many times as long as those of the other sites is not explained by other data."""


def diverged(norms: Mapping[str, float], steps: Mapping[str, int]) -> dict[str, str]:
    """Give the sites whose update is far too long, with the reason.

    Lengths are compared per square root of steps, as those of random walks: a site may take many more steps than the others. With
    fewer than three sites nobody can say which of them is wrong.
    """
    if len(norms) < 3:
        return {}
    scaled = {site: norm / math.sqrt(max(1, steps[site])) for site, norm in norms.items()}
    found = {}
    for site, own in scaled.items():
        others = sorted(value for other, value in scaled.items() if other != site)
        typical = others[(len(others) - 1) // 2]
        if own > FACTOR * typical > 0:
            found[site] = f"its update diverged: {own / typical:.3g} times as long as a typical site's"
    return found
