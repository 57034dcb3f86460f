"""Stretches of a training that stand out of the rest of it, as somebody can look at them and leave them out, or mark them as looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from glob import escape
from typing import Any

from pipeline.remarks import listed

Candidates = Mapping[str, Sequence["Candidate"]]
"""By site, strongest first."""

_SHOWN = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Candidate:
    """A stretch of a machine's training, as `[[dataset.leave_out]]` and `[[dataset.looked_at]]` take it.

    Attributes:
      asset: the machine.
      begin: first instant, ISO 8601 UTC.
      end: first instant behind it.
      times_usual: its largest score, in units of the one that the bulk of the site's scores lets expect once in the whole training.
      sensors: those that say most, strongest first.
    """

    asset: str
    begin: str
    end: str
    times_usual: float
    sensors: tuple[str, ...] = ()

    @property
    def span_ns(self) -> tuple[int, int]:
        """Begin and end, ns since 1970 UTC."""
        return _ns(self.begin), _ns(self.end)

    def to_json(self) -> dict[str, Any]:
        """Plain form; the times by the names of the configuration's keys."""
        return {
            "from": self.begin,
            "to": self.end,
            "asset": self.asset,
            "times_usual": self.times_usual,
            "sensors": list(self.sensors),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Candidate:
        """Inverse of `to_json`; keys of later versions are passed over."""
        return cls(
            str(raw["asset"]),
            str(raw["from"]),
            str(raw["to"]),
            float(raw.get("times_usual") or 0.0),
            tuple(raw.get("sensors") or ()),
        )


def to_json(candidates: Candidates) -> dict[str, list[dict[str, Any]]]:
    """Plain form, by site."""
    return {site: [each.to_json() for each in of] for site, of in candidates.items()}


def from_json(raw: Mapping[str, Any]) -> dict[str, tuple[Candidate, ...]]:
    """Inverse of `to_json`."""
    return {site: tuple(map(Candidate.from_json, of)) for site, of in raw.items()}


def instant(ns: int) -> str:
    """ISO 8601 in UTC of ns since 1970, to the microsecond.

    >>> instant(1_772_323_200_500_000_000)
    '2026-03-01T00:00:00.500000Z'
    """
    return (_EPOCH + timedelta(microseconds=ns // 1000)).isoformat().replace("+00:00", "Z")


def _ns(instant: str) -> int:
    moment = datetime.fromisoformat(instant.replace("Z", "+00:00"))
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def as_toml(candidates: Candidates, table: str) -> str:
    """All of them as entries of a table of `[dataset]`, `leave_out` or `looked_at`; empty without any."""
    tables = [
        "\n".join(
            (
                f"[[dataset.{table}]]",
                f"from = {_quoted(each.begin)}",
                f"to = {_quoted(each.end)}",
                f"sites = [{_quoted(escape(site))}]",
                f"assets = [{_quoted(escape(each.asset))}]",
            )
        )
        for site, of in candidates.items()
        for each in of
    ]
    return "\n\n".join(tables) + "\n" if tables else ""


def candidate_remarks(candidates: Candidates, looked_at_before: Candidates) -> Iterator[tuple[str, str]]:
    """Site and remark, one a site; of those that were looked at before only their number."""
    for site in sorted({*candidates, *looked_at_before}):
        of, before = candidates.get(site, ()), looked_at_before.get(site, ())
        if of:
            told = listed((_told(site, each) for each in of), _SHOWN)
            beside = f", beside {len(before)} looked at before" if before else ""
            yield (
                site,
                f"{_stand_out(of)}: {told}{beside}; look, and leave out what was not ordinary, mark as looked at what was "
                "(dataset.leave_out, dataset.looked_at; ready to paste in the report, in evaluation.json and in what backtest --json prints)",
            )
        elif before:
            yield site, f"{_stand_out(before)}, looked at before (dataset.looked_at)"


def _stand_out(of: Sequence[Candidate]) -> str:
    many, stand = (f"{len(of)} stretches", "stand") if len(of) > 1 else ("a stretch", "stands")
    return f"{many} of its training {stand} far out of the rest"


def _told(site: str, of: Candidate) -> str:
    begin, end = of.begin.replace("T", " "), of.end.replace("T", " ")
    short = end[11:] if end[:10] == begin[:10] else end
    machine = "" if of.asset == site else f"{of.asset} "
    sensors = f", most of all {' and '.join(of.sensors[:2])}" if of.sensors else ""
    return f"{machine}{begin} to {short} ({of.times_usual:.1f} times its usual largest score{sensors})"


def _quoted(text: str) -> str:
    # JSON's strings are TOML's, but for one character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
