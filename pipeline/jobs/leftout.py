"""Remarks on what learning did not see because it was told so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone

from pipeline.datasets.leaveout import LeftOut, Period, concerns, origin
from pipeline.datasets.survey import SiteOutcome


def left_out_remarks(
    stretches: Sequence[LeftOut], outcomes: Mapping[str, SiteOutcome], until_ns: int | None
) -> Iterator[tuple[str, str]]:
    """Site and remark: how many readings are left out, and stretches that touch none at any site, as after a typo in the year.

    Args:
      stretches: those of the data set's settings, in order.
      outcomes: of all sites.
      until_ns: learning ends before it, ns since 1970 UTC; None is the end of the data.
    """
    for site, outcome in sorted(outcomes.items()):
        if outcome.left_out and outcome.excluded is None:
            told = f"{outcome.left_out:,} of {outcome.readings:,} readings are left out of learning ({origin(stretches, outcome.touched)})"
            if outcome.fragments:
                told += f"; {outcome.fragments:,} steps are in pieces shorter than a frame, and no model learns from them (model.steps)"
            yield site, told
    for place, each in enumerate(stretches):
        if any(of.touched[place] for of in outcomes.values() if of.touched):
            continue
        told = touches_nothing(each, "leave_out", until_ns)
        yield from ((site, told) for site in sorted(outcomes) if concerns(each, site))


def touches_nothing(stretch: Period, table: str, until_ns: int | None) -> str:
    """What to say of a stretch of a table of `[dataset]` in which nothing is learned from; learning ends before `until_ns`, ns since 1970 UTC, if anywhere."""
    why = "check its year, its zone and the names of sites and machines"
    if until_ns is not None and stretch.from_ns >= until_ns:
        why = "it begins where learning has ended (train_until)"
    times = f"{_utc(stretch.from_ns)} to {_utc(stretch.to_ns)}"
    return f"the stretch {times} of dataset.{table} touches no reading that is learned from: {why}"


def left_out_counts(outcomes: Mapping[str, SiteOutcome]) -> dict[str, int]:
    """By site of which any reading is left out, how many."""
    return {site: of.left_out for site, of in sorted(outcomes.items()) if of.left_out}


def _utc(instant_ns: int) -> str:
    return f"{datetime.fromtimestamp(instant_ns // 1_000_000_000, timezone.utc):%Y-%m-%d %H:%M:%S}Z"
