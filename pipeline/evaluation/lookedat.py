"""Parts what stands out of a training by whether somebody has looked at it before: `[[dataset.looked_at]]`.

An entry is of one look back, and the next one, after more readings, moves the ends of a stretch by some steps. So a stretch counts as looked at
if at least half of its time lies in entries, and not only if all of it does; what grew to more than twice of what was looked at is named again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.datasets.leaveout import Period, concerns, matches
from pipeline.evaluation.candidate import Candidate, Candidates

BySite = dict[str, tuple[Candidate, ...]]


def parted(found: Candidates, looked_at: Sequence[Period]) -> tuple[BySite, BySite]:
    """Of all that stands out what is to be named, and what was looked at before, in the order of each site; sites without any are in neither."""
    named: BySite = {}
    before: BySite = {}
    for site, of in found.items():
        own = [each for each in looked_at if concerns(each, site)]
        for each in of:
            into = before if _is_looked_at(each, own) else named
            into[site] = (*into.get(site, ()), each)
    return named, before


def _is_looked_at(of: Candidate, periods: Iterable[Period]) -> bool:
    begin, end = of.span_ns
    spans = ((each.from_ns, each.to_ns) for each in periods if matches(of.asset, each.assets))
    return 2 * _covered(begin, end, spans) >= end - begin


def _covered(begin: int, end: int, spans: Iterable[tuple[int, int]]) -> int:
    """How much of the time from `begin` to `end` lies in any of the spans."""
    total, reached = 0, begin
    for first, last in sorted(spans):
        part = min(last, end) - max(first, reached)
        if part > 0:
            total, reached = total + part, min(last, end)
    return total
