"""Remarks on what sites can learn that can be made before anything is learned: a dry run and a training make the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.datasets.survey import SiteOutcome
from pipeline.remarks import listed


def alone(sensors: Sequence[str], outcomes: Mapping[str, SiteOutcome]) -> Iterator[tuple[str, str]]:
    """Sites, of those that can train, that no other site has anything in common with."""
    known = {site: set(sensors) - set(outcome.silent) for site, outcome in outcomes.items()}
    for site, own in sorted(known.items()):
        if len(known) == 1:
            yield site, "the only site that can learn, so federated is what it learns alone"
        elif not any(own & other for name, other in known.items() if name != site):
            yield (
                site,
                "no sensor in common with any other site, so next to nothing is learned from them (names must be the same: `name` under [sites.sensors.NAME] gives one)",
            )


def counting(outcomes: Mapping[str, SiteOutcome]) -> Iterator[tuple[str, str]]:
    """Sites with counters among their sensors."""
    for site, outcome in sorted(outcomes.items()):
        if outcome.counting:
            yield (
                site,
                f"only rises or only falls while learning, as a counter does: {listed(outcome.counting)}; what it shows later was never learned, "
                "which can raise false alarms and hide faults: leave it out (dataset.exclude), or send its rate",
            )
