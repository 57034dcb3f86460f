"""What federation buys a machine that joins late, and what fleets do to it: curves for `docs/value-of-federation.md`.

    python benchmarks/value_of_federation.py --data DIR [--fleet NAME ...] [--history NAME ...] [--work FOLDER] [--svg FOLDER] [--json]

`--data` is the folder with the raw public sets. A machine has only its latest rows to learn from; the others, of which it is not one, have
all of theirs. Machines are left out in folds. What is measured is the whole detector as it ships, without the network. Ways:

* `local`: the machine's rows alone.
* `federated`: relations between sensors from the other machines' federated sum alone, the scale partly; own rows calibrate.
* `federated and local`: that sum as prior beside the own rows, as the product does it.
* `centralised`: the same with the sum over all raw rows in one place, in which a row weighs the same wherever it comes from.

A machine with nothing of its own, or with too little to be calibrated, is scored by what the others' calibrations are like. Further, with
200 own rows: 2, 4, 8, 16 other machines, skewed sizes, one machine of another kind, one that sends poison. Labels decide nothing.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.command import command_line
from benchmarks.fleet import (
    LINEAR,
    LINEAR_FRAME,
    Machine,
    cmapss,
    judge,
    lacking,
    linear_detector,
    playing,
    smd,
    write_fleet,
)

FOLDS, FEW, MOST, CALIBRATING = 4, 200, 6, 6000
ALONE, FLEET, BOTH, POOLED = "local", "federated", "federated and local", "centralised"
HISTORIES: dict[str, dict[str, int | None]] = {
    "smd19": {
        "0": 0,
        "1 h": 60,
        "200 rows": FEW,
        "6 h": 360,
        "12 h": 720,
        "1 d": 1440,
        "3 d": 4320,
        "1 w": 10080,
        "all": None,
    },
    "cmapss": {"0": 0, "20 cycles": 20, "40 cycles": 40, "all (60)": None},
}
Figures = dict[str, float]


class Kept:
    """Figures in a file, so that an interrupted measurement goes on."""

    def __init__(self, path: Path | None) -> None:
        """Read what is there."""
        self._path = path
        there = path is not None and path.exists()
        self._known = json.loads(path.read_text()) if there and path is not None else {}

    def get(self, name: str, job: Callable[[], dict[str, Figures]]) -> dict[str, Figures]:
        """Give the figures called `name`, measured now if they are not known."""
        if name not in self._known:
            began = time.perf_counter()
            self._known[name] = job()
            say(f"{name}: {time.perf_counter() - began:.0f} s")
            if self._path is not None:
                self._path.write_text(json.dumps(self._known))
        return self._known[name]


def say(text: str) -> None:
    """A remark on standard error."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Others:
    """What a machine gets of others: statistics of one average row, sums for its scale, what those with a history tell of how much to take and whether, with so many rows,
    slow changes are to be followed, and some of their rows to be calibrated by."""

    prior: Any
    scales: Any
    elders: Any
    follows: Callable[[int], bool]
    rows: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, fleet: Mapping[str, Machine], own: Mapping[str, Any], names: Sequence[str]) -> Others:
        """Every machine's matrix and scale weigh the same."""
        from models.fleet_scaling import FleetScales
        from models.sources.gram import federated_prior

        sensors = fleet[names[0]].train.shape[1]
        scales = FleetScales.of({name: [fleet[name].train] for name in names}, sensors)
        follows = cls._advising(fleet, names, scales)
        return cls(
            federated_prior([own[name] for name in names]),
            scales,
            cls._telling(fleet, own, names, scales, follows),
            follows,
            {name: fleet[name].train[-CALIBRATING:] for name in names},
        )

    @staticmethod
    def _advising(fleet: Mapping[str, Machine], names: Sequence[str], scales: Any) -> Callable[[int], bool]:
        """Whether slow changes of a machine with so many rows are to be followed; measured once for each length."""
        from models.sharing import asked
        from models.sources.experience import age

        any_machine = fleet[names[0]]
        play = playing(scales, any_machine.train.shape[1], any_machine.step)

        @functools.cache
        def advised(stands_for: int) -> bool:
            wanted = asked({name: len(fleet[name].train) for name in names}, stands_for)
            return play.advise({name: [fleet[name].train] for name in wanted}, stands_for)

        return lambda rows: play.asks(rows) and advised(age(rows))

    @staticmethod
    def _telling(
        fleet: Mapping[str, Machine],
        own: Mapping[str, Any],
        names: Sequence[str],
        scales: Any,
        follows: Callable[[int], bool],
    ) -> Any:
        """What the machines, each beside the rest of them, tell of so short a history; measured once for each source and length."""
        from models.fitting import components_of
        from models.options import DetectorOptions
        from models.sharing import asked
        from models.slow_changes import steady_sensors
        from models.sources.base import Traits
        from models.sources.experience import added, experience
        from models.sources.gram import federated_prior
        from models.sources.pca import PcaFit

        options = DetectorOptions(sources=LINEAR)

        def prior(without: str) -> Any:
            return federated_prior([own[name] for name in names if name != without])

        def told(name: str, fit: Any, rows: int) -> Any:
            of = components_of(prior, fit.sensors) if isinstance(fit, PcaFit) else prior
            played = replace(options, early=follows(rows))
            return experience(
                fit,
                [fleet[name].train],
                rows,
                lambda known: scales.beside(name, known),
                of(name),
                options.prior_rows,
                lambda scaled: Traits(steady_sensors(scaled, played)),
            )

        @functools.cache
        def elders(fit: Any, rows: int) -> Any:
            wanted = asked({name: len(fleet[name].train) for name in names}, rows)
            return added(found for name in wanted if (found := told(name, fit, rows)) is not None)

        return lambda _, fit, rows: elders(fit, rows)


def detect(
    judged: Mapping[str, Machine], others: Others | None, prior_rows: float = 2000.0, trusting: bool = False
) -> dict[str, Figures]:
    """Figures of machines by the detector of each one's own rows beside `others`; with no row it is a machine never heard of."""
    from models.options import DetectorOptions
    from models.scaling import moments

    any_machine = next(iter(judged.values()))
    sensors = any_machine.train.shape[1]

    def detector(sites: Sequence[str], beside: Mapping[str, np.ndarray]) -> Any:
        rows = {site: judged[site].train for site in sites} | beside
        known = {name: moments([of], sensors) for name, of in rows.items()}
        return linear_detector(
            rows,
            {
                name: own.scaling() if others is None or name in beside else others.scales.beside(name, own)
                for name, own in known.items()
            },
            any_machine.step,
            prior=None if others is None else lambda without: others.prior,
            elders=None if others is None else others.elders,
            early=[site for site in sites if others is not None and others.follows(len(rows[site]))],
            prior_rows=prior_rows,
            trusting=trusting,
        )

    least = DetectorOptions().min_steps + LINEAR_FRAME
    young = [site for site, machine in judged.items() if len(machine.train) < least]
    by_site = {}
    if others is not None and young:
        # Without a calibration of its own a machine takes that of the others; machines of nothing are no site at all.
        known = [site for site in young if len(judged[site].train)]
        by_site = dict.fromkeys(young, detector(known, others.rows))
    found = {}
    for site, machine in judged.items():
        # With a calibration of its own nothing of the others enters but prior and scale.
        scores = (by_site.get(site) or detector([site], {})).score(site, machine.test)
        found[site] = judge(scores.score, scores.threshold, machine)
    return found


def joining(
    fleet: dict[str, Machine], own: Mapping[str, Any], histories: Mapping[str, int | None], kept: Kept
) -> dict[str, Any]:
    """By history, by way: mean figures over the machines, each judged by what machines of other folds gave."""
    from models.sources.gram import GramStatistics

    names = sorted(fleet)
    table: dict[str, dict[str, Figures]] = {}
    # Of a large fleet some machines are judged; the others are all there to learn from.
    folds = [names[fold::FOLDS][:MOST] for fold in range(FOLDS)]
    for history, count in histories.items():
        found: dict[str, dict[str, Figures]] = {}
        for number, targets in enumerate(folds):
            left = [name for name in names if name not in targets]
            others = Others.of(fleet, own, left)
            rows = {name: float(len(fleet[name].train)) for name in left}
            total = sum(own[name].gram * rows[name] for name in left)
            pooled = replace(others, prior=GramStatistics(total / sum(rows.values()), 1.0))
            late = {name: fleet[name].latest(count) for name in targets}
            jobs: dict[str, Callable[[], dict[str, Figures]]] = {
                FLEET: lambda late=late, others=others: detect(late, others, 1e9, trusting=True)
            }
            if count != 0:
                jobs |= {
                    ALONE: lambda late=late: detect(late, None),
                    BOTH: lambda late=late, others=others: detect(late, others),
                    POOLED: lambda late=late, pooled=pooled: detect(late, pooled),
                }
            for way, job in jobs.items():
                found.setdefault(way, {}).update(
                    kept.get(f"{history}, fold {number + 1}/{FOLDS}, {way}", job)
                )
        table[history] = {way: _mean(each) for way, each in found.items()}
        say(f"{history}: {table[history]}")
    return table


def fleets(fleet: dict[str, Machine], own: Mapping[str, Any], kept: Kept) -> dict[str, Figures]:
    """Mean figures of machines with few rows beside fleets of several makes."""
    from models.sources.gram import GramStatistics

    names = sorted(fleet)
    found: dict[str, dict[str, Figures]] = {}
    random = np.random.default_rng(7)

    def ask(name: str, late: dict[str, Machine], others: Others | None) -> None:
        found.setdefault(name, {}).update(kept.get(f"{name}, turn {turn + 1}", lambda: detect(late, others)))

    def with_one(eight: Sequence[str], odd: Machine) -> Others:
        strange = {**fleet, eight[0]: odd}
        return Others.of(strange, {**own, eight[0]: _statistics(odd)}, eight)

    for turn in range(3):
        targets = names[turn::7][:3]
        left = [name for name in names if name not in targets]
        late = {name: fleet[name].latest(FEW) for name in targets}
        ask("no other machine", late, None)
        for count in (2, 4, 8, 16):
            ask(f"{count} other machines", late, Others.of(fleet, own, left[:count]))
        eight = left[:8]
        short = {name: fleet[name].latest(FEW * 2**place) for place, name in enumerate(eight)}
        sizes = Others.of(short, {name: _statistics(short[name]) for name in eight}, eight)
        ask("8, from 200 rows to 25,600", late, sizes)
        poor = lacking({name: fleet[name] for name in eight})
        sums = {name: _statistics(poor[name]) for name in eight}
        ask("8, every other without a quarter of the sensors", late, Others.of(poor, sums, eight))
        alien = fleet[eight[0]]
        shuffled = random.permutation(alien.train.shape[1])
        ask("8, one of another kind", late, with_one(eight, replace(alien, train=alien.train[:, shuffled])))
        noise = random.choice([-10.0, 10.0], alien.train.shape)
        ask("8, one that invents its rows", late, with_one(eight, replace(alien, train=noise)))
        lie = GramStatistics(own[eight[0]].gram * 1000, 1.0)
        ask(
            "8, one that sends its sums 1,000-fold, unchecked",
            late,
            Others.of(fleet, {**own, eight[0]: lie}, eight),
        )
        ask("8, the same, refused by the check of sums", late, Others.of(fleet, own, eight[1:]))
    return {name: _mean(each) for name, each in found.items()}


def _statistics(machine: Machine) -> Any:
    """Of one machine's rows, scaled by itself."""
    from models.sources.ridge import RidgeFit

    rows = machine.scaling().apply(machine.train)
    return RidgeFit(rows.shape[1]).summarise(rows, 0, len(rows)).per_row()


def _mean(found: Mapping[str, Figures]) -> Figures:
    names = ("auc_pr", "false_alarms_per_week")
    return {name: round(float(np.nanmean([each[name] for each in found.values()])), 4) for name in names}


def held_against_bars(table: Mapping[str, Mapping[str, Figures]]) -> dict[str, float]:
    """The figures that have a bar, of what was measured: with nothing of its own a machine is detected in one way only."""
    found = {}
    few = table.get("200 rows")
    if few:
        found["gain_with_200_rows"] = round(few[BOTH]["auc_pr"] - few[ALONE]["auc_pr"], 4)
    whole = list(table.values())[-1]
    if POOLED in whole:
        found["federated_share_of_centralised"] = round(whole[BOTH]["auc_pr"] / whole[POOLED]["auc_pr"], 4)
    return found


def measure(data: Path, chosen: list[str], histories: list[str], work: Path | None) -> dict[str, Any]:
    """All tables."""
    from benchmarks.provenance import made_with
    from pipeline.federation.statistics import Design, federated_statistics

    read: dict[str, Callable[[Path], dict[str, Machine]]] = {"smd19": smd, "cmapss": cmapss}
    result: dict[str, Any] = {}
    for name in chosen:
        fleet = read[name](data)
        sensors = next(iter(fleet.values())).train.shape[1]
        say(f"{name}: {len(fleet)} machines, {sensors} sensors")
        with tempfile.TemporaryDirectory() as folder:
            shards = write_fleet(Path(folder), fleet, LINEAR_FRAME)
            statistics = federated_statistics(shards, Design(sensors))
        kept = Kept(None if work is None else work / f"{name}.json")
        wanted = {key: rows for key, rows in HISTORIES[name].items() if not histories or key in histories}
        result[name] = {"joining": joining(fleet, statistics.own, wanted, kept)}
        result[name] |= held_against_bars(result[name]["joining"])
        if name == "smd19":
            result[name]["fleets"] = fleets(fleet, statistics.own, kept)
    return {
        **result,
        "bars": {
            "gain_with_200_rows": 0.05,
            "federated_share_of_centralised": 0.98,
        },
        **made_with(),
    }


def picture(table: Mapping[str, Mapping[str, Figures]], title: str) -> str:
    """AUC-PR over history as SVG, one line a way."""
    width, height, left, top = 640, 320, 56, 34
    colours = {ALONE: "#c0392b", FLEET: "#2980b9", BOTH: "#16803c", POOLED: "#8e7cc3"}
    histories = list(table)
    areas = [figures["auc_pr"] for ways in table.values() for figures in ways.values()]
    low, high = min(areas) - 0.02, max(areas) + 0.02

    def x(place: int) -> float:
        return left + place * (width - left - 150) / max(1, len(histories) - 1)

    def y(area: float) -> float:
        return top + (high - area) / (high - low) * (height - top - 40)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="18" font-size="14">{title}</text>',
    ]
    for step in range(5):
        area = low + (high - low) * step / 4
        parts.append(
            f'<line x1="{left}" x2="{width - 150}" y1="{y(area):.1f}" y2="{y(area):.1f}" stroke="#ddd"/>'
            f'<text x="{left - 8}" y="{y(area) + 4:.1f}" text-anchor="end">{area:.2f}</text>'
        )
    for place, history in enumerate(histories):
        parts.append(f'<text x="{x(place):.1f}" y="{height - 16}" text-anchor="middle">{history}</text>')
    for number, (way, colour) in enumerate(colours.items()):
        points = [
            (x(place), y(table[history][way]["auc_pr"]))
            for place, history in enumerate(histories)
            if way in table[history]
        ]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        dash = ' stroke-dasharray="5 4"' if way == POOLED else ""
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
        parts.append(f'<text x="{width - 140}" y="{top + 20 + 18 * number}" fill="{colour}">{way}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    """Command line."""
    parser = command_line(__doc__, data=True)
    parser.add_argument("--fleet", action="append", choices=sorted(HISTORIES), default=None)
    parser.add_argument(
        "--history", action="append", help="only these: 0, 1 h, 200 rows, 6 h, .. as in `HISTORIES`"
    )
    parser.add_argument(
        "--work", type=Path, default=None, help="folder for figures, to go on after an interruption"
    )
    parser.add_argument("--svg", type=Path, default=None, help="folder for the pictures")
    asked = parser.parse_args()
    chosen = asked.fleet or list(HISTORIES)
    for name in chosen:
        if asked.history and not set(asked.history) & set(HISTORIES[name]):
            parser.error(
                f"--history {', '.join(asked.history)}: none of those of {name}, {', '.join(HISTORIES[name])}"
            )
    began = time.perf_counter()
    if asked.work is not None:
        asked.work.mkdir(parents=True, exist_ok=True)
    found = measure(asked.data, chosen, asked.history or [], asked.work)
    found["seconds"] = round(time.perf_counter() - began, 1)
    if asked.svg is not None:
        asked.svg.mkdir(parents=True, exist_ok=True)
        for name in HISTORIES:
            if name in found:
                text = picture(
                    found[name]["joining"], f"{name}: AUC-PR of a machine by what it has of its own"
                )
                (asked.svg / f"value-{name}.svg").write_text(text, encoding="utf-8")
    print(json.dumps(found, indent=None if asked.json else 2))


if __name__ == "__main__":
    main()
