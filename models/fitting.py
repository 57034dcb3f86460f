"""Fit a detector: its linear sources from sums, then the calibration of every site on residuals nobody was fitted on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.architectures.spec import ArchitectureSpec
from models.calibration import calibrate, typical_calibration
from models.detector import Detector
from models.errors import InvalidModel
from models.judges import Judge
from models.options import DetectorOptions
from models.scaling import SensorScaling
from models.sensors import SensorHistory
from models.sharing import Elders, Young, share_chooser
from models.slow_changes import steady_sensors, wander
from models.sources.base import Source, SourceFit, Traits
from models.sources.folds import FOLDS, ChooseShare, fit_rows, fold_rows
from models.sources.gram import GramStatistics
from models.sources.grouped import GroupedNetwork
from models.sources.network import NetworkSource
from models.sources.pca import PcaFit
from models.sources.ridge import RidgeFit
from models.sources.zscore import ZScoreSource
from models.switching import FEWER_COMPONENTS
from models.tables import Calibration
from models.training_rows import TrainingRows, training_rows

_SITE_ROWS = 250_000
"""Rows a site's calibration looks at, the last ones; sources are fitted on all."""

Prior = Callable[[str], "GramStatistics | None"]
"""Ridge statistics of an average site's row, without the named site."""


@dataclass(frozen=True)
class Fitted:
    """A source that needs no fitting, with its weight."""

    source: Source
    weight: float = 1.0


@dataclass(frozen=True)
class ToFit:
    """Sources fitted from sums, their weights in the order that `fit.solve` gives them, and how they are calibrated; `where_switching`: the share of the weights at machines that switch."""

    fit: SourceFit
    weights: tuple[float, ...]
    heavy_tails: bool = False
    own_wander: bool = False
    prior: Prior | None = None
    where_switching: float = 1.0


def fit_sources(
    fixed: Sequence[Fitted],
    fits: Sequence[ToFit],
    sensors: Sequence[str],
    step_seconds: float,
    steps: int,
    site_scaling: Mapping[str, SensorScaling],
    training_runs: Mapping[str, Sequence[NDArray[np.floating]]],
    options: DetectorOptions,
    assets: Mapping[str, Sequence[str]] | None = None,
    young: Young | None = None,
    elders: Elders | None = None,
    early: Collection[str] = (),
    fleet: bool = True,
) -> Detector:
    """Fit `fits`, calibrate them and the `fixed` sources: one row a site and the fleet's last; without `fleet` the detector can score the named sites only.

    A site with a run of `steps` steps but fewer than `options.min_steps` scored steps keeps its own scaling and takes the
    calibration of a typical other site, or, where no site has one of its own, that of all sites as one machine. A site's linear
    sources are fitted with up to `options.prior_rows` rows of an average other site beside its own. `assets` names the machine that each run of a
    site is of; without it a site is one machine. How much a site takes from the others is told by `elders`, or, with `young`, by the given sites that have several times
    its rows; else by its own held-back rows alone. Slow changes of the sites in `early` are followed however short their training is.

    Raises:
      NotEnoughData: no site has a run of `steps` steps. InvalidModel: the scalings take the logarithms of different sensors.
    """
    options = options.resolved(step_seconds)
    context = max([*(each.source.context for each in fixed), *(each.fit.context for each in fits)])
    rows = training_rows(
        len(sensors), steps, context, site_scaling, training_runs, options, assets, early, fleet
    )
    fixed = [
        replace(each, source=each.source.for_rows(rows.sites))
        if isinstance(each.source, GroupedNetwork)
        else each
        for each in fixed
    ]

    def choose(fit: SourceFit) -> ChooseShare | None:
        return share_chooser(fit, rows, options, young, elders, early)

    sources, judges = _judged(fixed, fits, rows, choose, options)
    calibration = _calibrations(fixed, fits, rows, judges, context, step_seconds, options)
    return Detector(
        sensors=tuple(sensors),
        step_seconds=step_seconds,
        steps=max(steps, context + 1),
        sites=rows.sites,
        sources=tuple(sources),
        mean=np.stack([s.mean for s in rows.scalings]),
        scale=np.stack([s.scale for s in rows.scalings]),
        floor=rows.floor,
        calibration=Calibration.stacked(calibration),
        history=SensorHistory.stacked(
            [
                SensorHistory.of(runs, wander(np.concatenate(scaled).astype(np.float64)))
                for runs, scaled in zip(rows.raw, rows.scaled, strict=True)
            ]
        ),
        options=options,
    )


def _judged(
    fixed: Sequence[Fitted],
    fits: Sequence[ToFit],
    rows: TrainingRows,
    choose: Callable[[SourceFit], ChooseShare | None],
    options: DetectorOptions,
) -> tuple[list[Source], dict[int, list[Judge]]]:
    """All sources, fitted, and by row that is calibrated how each of them is judged: the network on what it was trained on, but each linear source on blocks it was not fitted on."""
    sources: list[Source] = [each.source for each in fixed]
    judges = {
        row: [
            Judge(
                each.source, tuple(np.full(len(run), row, np.int32) for run in rows.scaled[row]), each.weight
            )
            for each in fixed
        ]
        for row in (*rows.alone, *rows.fleet)
    }
    for wanted in fits:
        prior = wanted.prior

        def without(row: int, prior: Prior | None = prior) -> GramStatistics | None:
            assert prior is not None
            return prior(rows.sites[row])

        whole, held = fit_rows(
            wanted.fit,
            rows.scaled,
            rows.alone,
            options.prior_rows,
            rows.traits,
            None if prior is None else without,
            trusting=options.trusting,
            choose=choose(wanted.fit),
            fleet=bool(rows.fleet),
        )
        taught = options.prior_rows > 0 and (prior is not None or len(rows.alone) > 1)
        kept = [i for i, weight in enumerate(wanted.weights) if weight > 0]
        sources.extend(whole[i] for i in kept)
        for row, found in held.items():
            folds = fold_rows(_lengths(rows.scaled[row]), FOLDS)
            share = wanted.where_switching if rows.traits[row].switches else 1.0
            judges[row] += [
                Judge(
                    found[i],
                    folds,
                    wanted.weights[i] * share,
                    taught and row in rows.of_sites,
                    wanted.heavy_tails,
                    wanted.own_wander,
                )
                for i in kept
            ]
    return sources, judges


def _calibrations(
    fixed: Sequence[Fitted],
    fits: Sequence[ToFit],
    rows: TrainingRows,
    judges: Mapping[int, Sequence[Judge]],
    context: int,
    step_seconds: float,
    options: DetectorOptions,
) -> list[Calibration]:
    """Of each row: its own, or what is typical of the sites that have one of their own."""
    found = {
        row: calibrate(
            *_latest(of_row, rows.scaled[row], context),
            context,
            step_seconds,
            rows.options[row],
            switching=rows.traits[row].switches,
        )
        for row, of_row in judges.items()
    }
    for row in rows.mixed:
        found[row] = _from_the_usual(found[row])
    if len(rows.alone) < len(rows.sites):
        typical = (
            typical_calibration([found[row] for row in rows.alone], options)
            if rows.alone
            else _as_one(fixed, fits, rows.scaled[: len(rows.sites)], context, step_seconds, options)
        )
        found = dict.fromkeys(rows.of_sites, typical) | found
    return [found[row] for row in (*rows.of_sites, *rows.fleet)]


def _from_the_usual(of: Calibration) -> Calibration:
    """With the slow memory of a usual step instead of the last one: where training ended is one machine of several."""
    return replace(of, last_baseline=of.centre, last_level=of.usual)


def _as_one(
    fixed: Sequence[Fitted],
    fits: Sequence[ToFit],
    scaled: Sequence[Sequence[NDArray[np.float32]]],
    context: int,
    step_seconds: float,
    options: DetectorOptions,
) -> Calibration:
    """Calibration of sites that are all too short for one of their own, from the rows of all of them, each in its own scale.

    Like the typical one it follows nothing: what changes from run to run is not time. The blocks that a source is judged on are
    other sites than those it was fitted on.
    """
    plain = replace(options.of_several(), follow=0.0)
    site, runs = zip(*((row, run) for row, of_site in enumerate(scaled) for run in of_site), strict=True)
    judges = [
        Judge(
            each.source,
            tuple(np.full(len(run), row, np.int32) for row, run in zip(site, runs, strict=True)),
            each.weight,
        )
        for each in fixed
    ]
    folds = fold_rows(_lengths(runs), FOLDS)
    for wanted in fits:
        _, held = fit_rows(wanted.fit, [runs], [], 0.0, [Traits(steady_sensors(runs, plain))])
        judges += [
            Judge(source, folds, weight, False, wanted.heavy_tails, wanted.own_wander)
            for source, weight in zip(held[0], wanted.weights, strict=True)
            if weight > 0
        ]
    found = calibrate(*_latest(judges, runs, context), context, step_seconds, plain)
    return typical_calibration([found], options)


def fit_detector(
    spec: ArchitectureSpec,
    weights: Sequence[NDArray[np.floating]] | None,
    sensors: Sequence[str],
    step_seconds: float,
    steps: int,
    site_scaling: Mapping[str, SensorScaling],
    training_runs: Mapping[str, Sequence[NDArray[np.floating]]],
    options: DetectorOptions | None = None,
    prior: Prior | None = None,
    own_weights: Mapping[str, Sequence[NDArray[np.floating]]] | None = None,
    component_prior: Prior | None = None,
    assets: Mapping[str, Sequence[str]] | None = None,
    young: Young | None = None,
    elders: Elders | None = None,
    early: Collection[str] = (),
    fleet: bool = True,
) -> Detector:
    """Fit and calibrate the sources that `options` names on raw training runs float64[N, F] per site, in time order.

    `weights` are those of the trained network, None if the options name none; `own_weights` those of sites that have others. `prior` gives the ridge's federated statistics
    where they were summed elsewhere, `component_prior` those of the components, for which a part of the former stands in; without either they are summed from
    `training_runs`.
    `assets`: by site, which machine each run is of. `young`, `elders`, `early`, `fleet`: as in `fit_sources`.

    Raises:
      InvalidModel: the weights do not fit or are missing. NotEnoughData: no site has a run of `steps` steps.
    """
    chosen = options or DetectorOptions()
    weight = {name: chosen.weights[name] if name in chosen.sources else 0.0 for name in chosen.weights}
    fixed: list[Fitted] = []
    fits: list[ToFit] = []
    count = len(sensors)
    if weight["network"] > 0:
        if weights is None:
            raise InvalidModel("source 'network' needs the trained network's weights")
        if own_weights:
            network: Source = GroupedNetwork.of(spec, weights, own_weights, steps, count)
        else:
            network = NetworkSource.of(spec, weights, steps, count)
        fixed.append(Fitted(network, weight["network"]))
    if weight["zscore"] > 0:
        fixed.append(Fitted(ZScoreSource(), weight["zscore"]))
    if weight["excursion"] > 0:
        fixed.append(Fitted(ZScoreSource(excursion=True), weight["excursion"]))
    if weight["ridge"] > 0 or weight["stiff_ridge"] > 0:
        ridge = RidgeFit(count, (chosen.ridge, chosen.stiff_ridge))
        fits.append(ToFit(ridge, (weight["ridge"], weight["stiff_ridge"]), True, True, prior))
    if weight["pca"] > 0:
        of_now = component_prior or (None if prior is None else components_of(prior, count))
        components = PcaFit(count, chosen.pca)
        fits.append(ToFit(components, (weight["pca"],), prior=of_now, where_switching=FEWER_COMPONENTS))
    return fit_sources(
        fixed,
        fits,
        sensors,
        step_seconds,
        steps,
        site_scaling,
        training_runs,
        chosen,
        assets,
        young,
        elders,
        early,
        fleet,
    )


def components_of(prior: Prior, sensors: int) -> Prior:
    """The part of the ridge's statistics that is of sensors now and the constant: that of the components but for their nearer clipping."""

    def part(without: str) -> GramStatistics | None:
        whole = prior(without)
        return None if whole is None else whole.now(sensors)

    return part


def _latest(
    judges: Sequence[Judge], runs: Sequence[NDArray[np.float32]], context: int
) -> tuple[list[Judge], list[NDArray[np.float32]]]:
    """The last `_SITE_ROWS` rows of the runs that are long enough to be scored, and the judges of these rows."""
    left, kept = _SITE_ROWS, {}
    for i in range(len(runs) - 1, -1, -1):
        if left > context and len(runs[i]) > context:
            kept[i] = min(left, len(runs[i]))
            left -= kept[i]
    order = sorted(kept)
    cut = [replace(judge, rows=tuple(judge.rows[i][-kept[i] :] for i in order)) for judge in judges]
    return cut, [runs[i][-kept[i] :] for i in order]


def _lengths(runs: Sequence[NDArray[np.float32]]) -> list[int]:
    return [len(run) for run in runs]
