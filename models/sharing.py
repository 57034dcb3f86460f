"""How much of what other sites are like a site is fitted with: as sites with a history say, and its own held-back rows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.options import DetectorOptions
from models.scaling import SensorMoments, SensorScaling
from models.slow_changes import steady_sensors
from models.sources.base import SourceFit, Traits
from models.sources.experience import LONGER, Experience, added, age, experience
from models.sources.folds import ChooseShare, PriorWithout
from models.training_rows import TrainingRows

Young = Callable[[str, SensorMoments], SensorScaling]
"""The scaling that a site would have if no more were known of it."""

Elders = Callable[[str, SourceFit, int], "Experience | None"]
"""What sites but the named one, with a history, tell a site with so many rows of how much to take from others."""


_ASKED = 8
"""Sites that are asked at most: a few tell as much as many, and each fits the sources some dozen times for every age that is asked about."""


def asked(histories: Mapping[str, int], rows: int) -> list[str]:
    """Sites that tell of a history of `rows` rows: of those with `LONGER` times as many, given by site, the longest."""
    able = [site for site, known in histories.items() if known >= LONGER * rows]
    return sorted(able, key=lambda site: (-histories[site], site))[:_ASKED]


def share_chooser(
    fit: SourceFit,
    rows: TrainingRows,
    options: DetectorOptions,
    young: Young | None,
    elders: Elders | None,
    early: Collection[str] = (),
) -> ChooseShare | None:
    """How a site's share of the others' statistics is chosen; None where nobody but itself says. Others play young as it is: followed, if it is one of `early`; each as the machine that
    it is, one that switches or not."""
    if elders is None and young is None:
        return None
    histories = {rows.sites[row]: sum(map(len, rows.raw[row])) for row in rows.of_sites}
    told: dict[tuple[str, int, bool], Experience | None] = {}

    def tell(site: str, age_rows: int, followed: bool, without: PriorWithout) -> Experience | None:
        if (site, age_rows, followed) not in told:
            row = rows.sites.index(site)
            others = without(row)
            told[site, age_rows, followed] = (
                None
                if young is None or others is None
                else experience(
                    fit,
                    rows.raw[row],
                    age_rows,
                    functools.partial(young, site),
                    others,
                    options.prior_rows,
                    lambda scaled: Traits(
                        steady_sensors(scaled, replace(options, early=followed)), rows.traits[row].switches
                    ),
                    rows.scalings[row].floor,
                )
            )
        return told[site, age_rows, followed]

    def choose(row: int, without: PriorWithout, held_back: NDArray[np.float64]) -> int:
        site = rows.sites[row]
        age_rows = age(histories[site])
        if elders is not None:
            total = elders(site, fit, age_rows)
        else:
            each = (tell(other, age_rows, site in early, without) for other in asked(histories, age_rows))
            total = added(found for found in each if found is not None)
        return int(np.argmin(held_back)) if total is None else total.best(held_back)

    return choose
