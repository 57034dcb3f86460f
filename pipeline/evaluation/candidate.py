"""Stretches of a training that stand out of the rest of it, as somebody can look at them and leave them out."""

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
    """A stretch of a machine's training, as `[[dataset.leave_out]]` takes it.

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


def instant(ns: int) -> str:
    """ISO 8601 in UTC of ns since 1970, to the microsecond.

    >>> instant(1_772_323_200_500_000_000)
    '2026-03-01T00:00:00.500000Z'
    """
    return (_EPOCH + timedelta(microseconds=ns // 1000)).isoformat().replace("+00:00", "Z")


def as_toml(candidates: Candidates) -> str:
    """All of them as tables of the configuration; empty without any."""
    tables = [
        "\n".join(
            (
                "[[dataset.leave_out]]",
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


def candidate_remarks(candidates: Candidates) -> Iterator[tuple[str, str]]:
    """Site and remark, one a site."""
    for site, of in candidates.items():
        if of:
            many = f"{len(of)} stretches" if len(of) > 1 else "a stretch"
            stand = "stand" if len(of) > 1 else "stands"
            told = listed((_told(site, each) for each in of), _SHOWN)
            yield (
                site,
                f"{many} of its training {stand} far out of the rest: {told}; look, and leave out what was not ordinary "
                "(dataset.leave_out; ready to paste in the report, in evaluation.json and in what backtest --json prints)",
            )


def _told(site: str, of: Candidate) -> str:
    begin, end = of.begin.replace("T", " "), of.end.replace("T", " ")
    short = end[11:] if end[:10] == begin[:10] else end
    machine = "" if of.asset == site else f"{of.asset} "
    sensors = f", most of all {' and '.join(of.sensors[:2])}" if of.sensors else ""
    return f"{machine}{begin} to {short} ({of.times_usual:.1f} times its usual largest score{sensors})"


def _quoted(text: str) -> str:
    # JSON's strings are TOML's, but for one character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
