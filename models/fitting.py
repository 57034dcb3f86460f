"""Fit a detector: its linear sources from sums, then the calibration of every site on residuals nobody was fitted on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.architectures.spec import ArchitectureSpec
from models.calibration import Judge, calibrate, steady_sensors, traits_of, typical_calibration, wander
from models.detector import Detector
from models.errors import InvalidModel, NotEnoughData
from models.logarithms import floor_of
from models.options import DetectorOptions
from models.scaling import SensorScaling, as_float32, moments
from models.sensors import SensorHistory
from models.sharing import Elders, Young, share_chooser
from models.sources.base import Source, SourceFit, Traits
from models.sources.folds import FOLDS, fit_rows, fold_rows
from models.sources.gram import GramStatistics
from models.sources.grouped import GroupedNetwork
from models.sources.network import NetworkSource
from models.sources.pca import PcaFit
from models.sources.ridge import RidgeFit
from models.sources.zscore import ZScoreSource
from models.switching import FEWER_COMPONENTS, as_elders_do
from models.tables import Calibration

_FLEET_ROWS = 60_000
"""Rows the fleet's calibration looks at, the last ones of every run: it serves sites that nothing is known of."""
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
    usable = {
        site: [as_float32(run) for run in runs if len(run) >= steps]
        for site, runs in sorted(training_runs.items())
    }
    of_asset = {
        site: [
            asset for asset, run in zip(assets[site], training_runs[site], strict=True) if len(run) >= steps
        ]
        if assets
        else [site] * len(runs)
        for site, runs in usable.items()
    }
    share = max(steps, _FLEET_ROWS // max(1, sum(len(runs) for runs in usable.values())))
    pooled = [run[-share:] for runs in usable.values() for run in runs]
    if not pooled:
        raise NotEnoughData(
            f"no site has a gap-free run of {steps} steps; lower the frame length or ingest more"
        )
    context = max([*(each.source.context for each in fixed), *(each.fit.context for each in fits)])
    named = {site: runs for site, runs in usable.items() if runs and site in site_scaling}
    if not (named or fleet):
        raise NotEnoughData(
            "no named site has rows and a scaling; without a row of the fleet there is nothing to fit"
        )
    own = [s for s, runs in named.items() if sum(len(r) - context for r in runs) >= options.min_steps]
    sites = tuple(named)
    scalings = [site_scaling[site] for site in sites]
    floor = _fleet_floor(scalings, pooled)
    raw = [named[site] for site in sites]
    if fleet:
        scalings.append(moments(pooled, len(sensors), floor).scaling())
        raw.append(pooled)
    scaled = [[scaling.apply(run) for run in runs] for scaling, runs in zip(scalings, raw, strict=True)]
    alone = [row for row, site in enumerate(sites) if site in own]
    of_row = [
        of_one_machine(
            named[site], of_asset[site], replace(options, early=True) if site in early else options
        )
        for site in sites
    ] + [options]
    # A site without a calibration of its own takes that of others, whose components nobody took a sensor out of.
    every = np.ones(len(sensors), np.bool_)
    judged = [*alone, *range(len(sites), len(scaled))]
    traits = [
        traits_of(runs, of_row[row]) if row in judged else Traits(every) for row, runs in enumerate(scaled)
    ]
    as_elders_do(traits, [sum(_lengths(runs)) for runs in scaled[: len(sites)]], options.follow_from)
    fixed = [
        replace(each, source=each.source.for_rows(sites)) if isinstance(each.source, GroupedNetwork) else each
        for each in fixed
    ]
    sources: list[Source] = [each.source for each in fixed]
    # Calibration judges the network on what it was trained on, but each linear source on blocks it was not fitted on.
    judges = [
        [
            Judge(each.source, tuple(np.full(len(run), row, np.int32) for run in runs), each.weight)
            for each in fixed
        ]
        for row, runs in enumerate(scaled)
    ]
    switching = [site for row, site in enumerate(sites) if traits[row].switches]
    for wanted in fits:
        prior = wanted.prior

        def without(row: int, prior: Prior | None = prior) -> GramStatistics | None:
            assert prior is not None
            return prior(sites[row])

        whole, held = fit_rows(
            wanted.fit,
            scaled,
            alone,
            options.prior_rows,
            traits,
            None if prior is None else without,
            trusting=options.trusting,
            choose=share_chooser(
                wanted.fit, sites, named, site_scaling, options, young, elders, early, switching
            ),
            fleet=fleet,
        )
        taught = options.prior_rows > 0 and (prior is not None or len(alone) > 1)
        kept = [i for i, weight in enumerate(wanted.weights) if weight > 0]
        sources.extend(whole[i] for i in kept)
        for row, found in held.items():
            folds = fold_rows(_lengths(scaled[row]), FOLDS)
            judges[row] += [
                Judge(
                    found[i],
                    folds,
                    wanted.weights[i] * (wanted.where_switching if traits[row].switches else 1.0),
                    taught and row < len(sites),
                    wanted.heavy_tails,
                    wanted.own_wander,
                )
                for i in kept
            ]
    by_row = {
        row: calibrate(
            *_latest(judges[row], scaled[row], context),
            context,
            step_seconds,
            of_row[row],
            traits[row].switches,
            # The fleet's row is several machines, and serves one that is none of them.
            regimes=options.regimes and row < len(sites),
        )
        for row in judged
    }
    for row in alone:
        if len(set(of_asset[sites[row]])) > 1:
            by_row[row] = _from_the_usual(by_row[row])
    if len(alone) < len(sites):
        typical = (
            typical_calibration([by_row[row] for row in alone], options)
            if alone
            else _as_one(fixed, fits, scaled[: len(sites)], context, step_seconds, options)
        )
        by_row.update({row: typical for row in range(len(sites)) if row not in by_row})
    return Detector(
        sensors=tuple(sensors),
        step_seconds=step_seconds,
        steps=max(steps, context + 1),
        sites=sites,
        sources=tuple(sources),
        mean=np.stack([s.mean for s in scalings]),
        scale=np.stack([s.scale for s in scalings]),
        floor=None if floor is None else np.stack([s.floor for s in scalings if s.floor is not None]),
        calibration=Calibration.stacked([by_row[row] for row in range(len(scaled))]),
        history=SensorHistory.stacked(
            [
                SensorHistory.of(runs, wander(np.concatenate(of_site).astype(np.float64)))
                for runs, of_site in zip(raw, scaled, strict=True)
            ]
        ),
        options=options,
    )


def _fleet_floor(
    of_sites: Sequence[SensorScaling], pooled: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64] | None:
    """Floor float64[F] of the fleet's row: the sensors that every site's scaling names, the smallest readings of the pooled rows."""
    known = [each.floor for each in of_sites if each.floor is not None]
    if not known:
        return None
    named = ~np.isnan(known[0])
    if len(known) < len(of_sites) or any((~np.isnan(floor) != named).any() for floor in known):
        raise InvalidModel(
            "the sites' scalings take the logarithms of different sensors; name the same everywhere"
        )
    return floor_of(pooled, named)


def rows_by_machine(runs: Sequence[NDArray[np.floating]], assets: Sequence[str]) -> dict[str, int]:
    """How many rows there are of each machine, in the order in which the runs name them."""
    rows: dict[str, int] = {}
    for run, asset in zip(runs, assets, strict=True):
        rows[asset] = rows.get(asset, 0) + len(run)
    return rows


def of_one_machine(
    runs: Sequence[NDArray[np.float32]], assets: Sequence[str], options: DetectorOptions
) -> DetectorOptions:
    """The options with a memory for slow changes that fits the machine watched longest, of those that the runs are of.

    What differs between two machines is not a change: sixty machines of a hundred rows tell as little of slow ones as one of a hundred.
    """
    rows = rows_by_machine(runs, assets)
    longest, whole = max(rows.values()), sum(rows.values())
    if longest == whole:
        return options
    return replace(options, follow=options.follow * longest / whole if options.follows(longest) else 0.0)


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
    plain = replace(options, follow=0.0)
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
