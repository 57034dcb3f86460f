"""What to expect of alarms before there is a label: detectors of each site's earlier training rows, held against its later ones.

A threshold promises a share of normal steps, and nothing in a training tells how far its machine will move afterwards. How far machines moved
within their trainings does, in the mean over machines: forward validation (Tashman 2000, "Out-of-sample tests of forecasting accuracy").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.detector import Detector
from models.errors import NotEnoughData
from models.fitting import fit_detector
from models.options import DetectorOptions
from models.scaling import moments
from pipeline.artefacts import FEDERATED, Evaluation, Expected
from pipeline.config.schema import Config
from pipeline.datasets.prepared import Prepared
from pipeline.datasets.run import Run
from pipeline.datasets.shards import Dataset
from pipeline.evaluation.early import LOUD
from pipeline.evaluation.judging import Judged, cut_from, judge
from pipeline.evaluation.truth import UNKNOWN
from pipeline.learning.configured import architecture, calibration
from pipeline.learning.learned import Learned
from pipeline.learning.sharing import early_sites, floors_of, young_scaling
from pipeline.remarks import listed
from pipeline.watch import Step

LATER = 0.4
"""Share of a site's training rows that a detector of the others is held against."""


def expect(config: Config, prepared: Prepared, learned: Learned, step: Step | None = None) -> Expected | None:
    """Figures without labels of sites whose training rows can be parted; None if there is none.

    All sites learn again from the first three fifths of their rows, in the scale of these rows and beside the others' first three fifths, and are
    calibrated as the exported detector is. The network is the exported one and has seen both parts; it has a twentieth of a say.
    """
    dataset = prepared.dataset
    parts = {site: prepared.parts(site, LATER) for site in dataset.shards}
    usable = {site: of for site, of in parts.items() if of[1]}
    if not usable:
        return None
    earlier = {site: before for site, (before, _) in usable.items()}
    own = {site: weights for site, weights in learned.own_networks.items() if site in usable}
    try:
        detector = earlier_detector(config, dataset, earlier, 1.0 - LATER, learned.network, own)
    except NotEnoughData:
        return None
    seen = {site: prepared.seen(site) for site in usable}
    found = held_against_later(detector, seen, usable, config.model.steps, config.scoring.hold_off, step)
    if not found.sites:
        return None
    by_week = config.detector.threshold == "alarms_per_week"
    return Expected(
        None if by_week else config.detector.false_alarm_rate,
        config.detector.alarms_per_week if by_week else None,
        {site: by_mode[FEDERATED] for site, by_mode in found.sites.items()},
        found.mean[FEDERATED],
    )


def held_against_later(
    detector: Detector,
    seen: Mapping[str, Sequence[Run]],
    parts: Mapping[str, tuple[Sequence[Run], Sequence[Run]]],
    memory: int,
    hold_off: float,
    step: Step | None = None,
) -> Evaluation:
    """Figures without labels, as `federated`, of a detector of the earlier parts of sites' training runs on the later ones.

    Args:
      detector: what learned the earlier parts.
      seen: by site the runs before they were parted.
      parts: by site earlier and later runs; there are later ones.
      memory: rows that fill the detector before it scores.
      hold_off: in seconds, as the live scorer's.
      step: is told of progress.
    """
    later = {
        site: _behind(seen[site], min(run.start_ns for run in after), memory)
        for site, (before, after) in parts.items()
        # What has no calibration of its own is judged by that of others: its own history says nothing of it.
        if sum(len(run.values) for run in before) >= detector.options.min_steps
    }
    return judge({FEDERATED: dict.fromkeys(later, detector)}, later, detector.step_seconds, hold_off, step)


def of_part(options: DetectorOptions, part: float) -> DetectorOptions:
    """Resolved options for the first `part` of a training: what takes a certain length of training takes that part of it."""
    return replace(options, follow_from=max(1, round(part * options.follow_from)), follow_from_seconds=None)


def earlier_detector(
    config: Config,
    dataset: Dataset,
    earlier: Mapping[str, Sequence[Run]],
    part: float,
    weights: Sequence[NDArray[np.float32]] | None,
    own_weights: Mapping[str, Sequence[NDArray[np.float32]]] | None = None,
) -> Detector:
    """The detector that these runs of the data set's sites, the first `part` of each, would have given with an already trained network.

    A site whose whole training is followed is so by its earlier rows too.

    Raises:
      NotEnoughData: no site has a run of `model.steps` steps.
    """
    runs = {site: [run.values for run in of] for site, of in earlier.items()}
    floors = floors_of(dataset, runs)
    known = {site: moments(of, len(dataset.sensors), floors[site]) for site, of in runs.items()}
    young = young_scaling(config, dataset, runs)
    step_seconds = dataset.step_ns / 1e9
    options = of_part(calibration(config).resolved(step_seconds), part)
    if config.training.statistics_noise is not None:
        # The others' sums of fewer rows were never made with noise.
        options = replace(options, prior_rows=0.0)
    assets = {site: [run.asset for run in of] for site, of in earlier.items()}
    return fit_detector(
        architecture(config),
        weights,
        dataset.sensors,
        step_seconds,
        config.model.steps,
        {site: of.scaling() if young is None else young(site, of) for site, of in known.items()},
        runs,
        options,
        own_weights=own_weights,
        assets=assets,
        young=young,
        early=early_sites(config, dataset, runs, assets, options, young),
        fleet=False,
    )


def loud(evaluation: Evaluation) -> list[str]:
    """A remark where more than twice what is promised is to be expected in the mean, with the sites that changed most; else none.

    In the mean: how far one machine moved within its training says little of how far it will move (`benchmarks/short_trainings.py`).
    """
    expected = evaluation.expected
    mean = None if expected is None else expected.figure(expected.mean)
    if expected is None or mean is None or mean <= LOUD * expected.promise:
        return []
    by_site = {site: expected.figure(of) or 0.0 for site, of in expected.sites.items()}
    most = sorted(by_site, key=lambda site: (-by_site[site], site))
    shown = listed((f"{site} {by_site[site]:.3g}" for site in most), most=3)
    return [
        f"{expected.unit}: {mean:.3g} are to be expected, {expected.promise:g} promised, for machines changed within their training; most of all {shown}"
        " (train again as history grows, or ask for less)"
    ]


def _behind(runs: Sequence[Run], from_ns: int, memory: int) -> list[Judged]:
    """Rows of the runs from an instant on, without labels, with rows before them to fill a detector."""
    parts = (cut_from(run, np.full(len(run.values), UNKNOWN, np.int8), from_ns, memory) for run in runs)
    return [part for part in parts if part is not None]
