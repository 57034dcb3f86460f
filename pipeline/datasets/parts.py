"""All sites on one grid, from which sensors that only count are left out as if `DatasetSettings.exclude` had named them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from pipeline.datasets.snapshot import DatasetSettings, Snapshot
from pipeline.datasets.survey import Grid, ReadSite, SiteOutcome, SitePart, site_part, survey
from pipeline.remarks import listed


def parts_of_sites(snapshot: Snapshot, read_site: ReadSite) -> tuple[Grid, dict[str, SitePart]]:
    """The grid that settings and readings give together, without counters, and each site of the snapshot on it.

    Raises:
      NothingToDo: no site has readings, or none two at different times.
      ConfigError: none of the wanted sensors exists, a pattern of logarithms names none, or step and gap contradict.
    """
    grid = whole = survey(snapshot, read_site)
    parts = {site: site_part(site, snapshot, read_site, grid) for site in snapshot.sources}
    able = {site for site, part in parts.items() if part.outcome.excluded is None}
    # Again and again, because a site may be too short without them, and no longer have a say in what counts.
    while left_out := counters([part.outcome for part in parts.values()], grid.sensors, snapshot.settings):
        grid = _without(grid, left_out)
        gone = sorted(set(whole.sensors) - set(grid.sensors))
        # Brought to the grid anew: a machine of which only a counter speaks is silent, to learning and to the scorer alike.
        for site, before in parts.items():
            found = site_part(site, snapshot, read_site, grid)
            told = {*found.outcome.counting, *(name for name in before.outcome.counting if name in gone)}
            outcome = replace(found.outcome, counting=tuple(sorted(told)))
            if outcome.excluded is not None and site in able:
                why = f'left out, because they count: {listed(gone)} (dataset.counters = "keep" keeps them)'
                outcome = replace(outcome, excluded=f"{outcome.excluded}; {why}")
            parts[site] = replace(found, outcome=outcome)
    return grid, parts


def counters(
    outcomes: Iterable[SiteOutcome], sensors: Sequence[str], settings: DatasetSettings
) -> tuple[str, ...]:
    """Those of the grid's `sensors` that are to be left out: they count at more than half of the sites that can train and at which they move.

    None where the settings keep them or name the sensors to use, or where nothing else would be left.
    """
    if settings.counters == "keep" or settings.sensors is not None:
        return ()
    able = [outcome for outcome in outcomes if outcome.excluded is None]
    count = Counter(name for outcome in able for name in outcome.counting)
    rest = Counter(name for outcome in able for name in {*outcome.constant, *outcome.silent})
    found = tuple(name for name in sensors if 2 * count[name] > len(able) - rest[name])
    return found if len(found) < len(sensors) else ()


def left_out_counters(sensors: Collection[str], outcomes: Iterable[SiteOutcome]) -> tuple[str, ...]:
    """Sensors that count at any site and are not among those of the grid, sorted."""
    return tuple(sorted({name for outcome in outcomes for name in outcome.counting} - set(sensors)))


def _without(grid: Grid, left_out: Collection[str]) -> Grid:
    kept = [each for each in zip(grid.sensors, grid.hold_ns, strict=True) if each[0] not in left_out]
    return replace(grid, sensors=tuple(name for name, _ in kept), hold_ns=tuple(hold for _, hold in kept))
