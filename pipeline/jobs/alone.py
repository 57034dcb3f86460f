"""Remarks on sites that learn nothing from others, whatever way of training is chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.datasets.survey import SiteOutcome


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
