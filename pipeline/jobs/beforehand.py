"""Remarks on what sites can learn that can be made before anything is learned: a dry run and a training make the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.config.durations import format_duration
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


def finer(
    step_ns: int, finer_ns: Mapping[str, int], outcomes: Mapping[str, SiteOutcome]
) -> Iterator[tuple[str, str]]:
    """Sites, of those that can train, whose readings are closer together (`finer_ns`, by site) than the grid's `step_ns` that was taken from all sites."""
    for site in sorted(set(finer_ns) & set(outcomes)):
        apart, step = (format_duration(each / 1e9) for each in (finer_ns[site], step_ns))
        yield (
            site,
            f"readings are {apart} apart and the sites' common step is {step}: of those in one step only the last is looked at "
            "(dataset.step sets another, dataset.max_gap how long the values of slower sites then count)",
        )


def unknown_sensors(unknown: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names of `dataset.sensors` and `dataset.exclude` that stand for nothing, as after a typo."""
    if unknown:
        yield (
            "dataset.sensors, dataset.exclude",
            f"no site sends {listed(unknown)}: check the names, capitals matter",
        )


def counting(sensors: Sequence[str], outcomes: Mapping[str, SiteOutcome]) -> Iterator[tuple[str, str]]:
    """Sites, of those that can train, with counters, and what becomes of these: learned from, if they are among `sensors`, or left out."""
    looks = "only rises or only falls while learning, as a counter does"
    for site, outcome in sorted(outcomes.items()):
        if left_out := [name for name in outcome.counting if name not in sensors]:
            yield (
                site,
                f"{looks}, and is left out: {listed(left_out)}; send its rate to have it watched, or keep it "
                '(dataset.counters = "keep")',
            )
        if kept := [name for name in outcome.counting if name in sensors]:
            yield (
                site,
                f"{looks}: {listed(kept)}; what it shows later was never learned, "
                "which can raise false alarms and hide faults: leave it out (dataset.exclude), or send its rate",
            )
