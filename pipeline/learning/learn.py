"""One data set learned in several ways: federated, each site alone, and pooled, with the same model, steps and calibration.

Pooling raw data is what no plant may do; it is trained only to show what federation loses against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from models.baselines import fit_baseline
from models.scaling import SensorScaling
from pipeline.artefacts import BASELINES, CENTRALISED, FEDERATED, LOCAL, Curve, Curves
from pipeline.config.schema import Config
from pipeline.datasets.prepared import TrainingRows
from pipeline.datasets.shards import Dataset
from pipeline.learning.configured import calibration
from pipeline.learning.cost import cost_of_ridges
from pipeline.learning.curves import curve_of, mean_curve
from pipeline.learning.federated import Together, learn_together
from pipeline.learning.learned import Learned, Scorer
from pipeline.learning.trainer import Trainer
from pipeline.watch import Step, Watch


def learn(
    config: Config, dataset: Dataset, rows: TrainingRows, modes: Iterable[str], *, workdir: Path, watch: Watch
) -> Learned:
    """Train and calibrate every way that is asked for.

    Args:
      config: model, training and detector settings.
      dataset: the shards, per site.
      rows: by site, the raw training runs that calibration looks at; never leaves its site's entry.
      modes: of `pipeline.artefacts.MODES`.
      workdir: where checkpoints lie, so that a killed training resumes.
      watch: is told about every round.

    Raises:
      ConfigError: more groups of sites are wanted than there are sites, or too few sites for a robust aggregation.
      TrainingFailed: no site is left to train with.
      NotEnoughData: too few rows to calibrate.
    """
    wanted = set(modes)
    sites = sorted(dataset.shards)
    trainer = Trainer(config, dataset, rows, workdir)
    scorers: dict[str, dict[str, Scorer]] = {}
    curves: dict[str, Curve] = {}
    together: Together | None = None
    told = cost_of_ridges(config, dataset.sensors, [dataset.outcomes[site] for site in sites])
    if told is not None:
        watch.say(told)
    if FEDERATED in wanted:
        with watch.step("federated training") as step:
            together = learn_together(trainer, sites, step)
        scorers[FEDERATED] = dict.fromkeys(sites, together.detector)
        if together.result is not None:
            curves[FEDERATED] = curve_of(together.result)
    if LOCAL in wanted:
        with watch.step("each site alone") as step:
            scorers[LOCAL], trained = {}, []
            for number, site in enumerate(sites):
                result = trainer.network(LOCAL, [site], step, done=number, of=len(sites))
                scorers[LOCAL][site] = trainer.detector(result, [site], alone=True)
                trained += [] if result is None else [result]
        if trained:
            curves[LOCAL] = mean_curve(trained)
    if CENTRALISED in wanted:
        with watch.step("pooled, to compare") as step:
            result = trainer.network(CENTRALISED, sites, step)
            scorers[CENTRALISED] = dict.fromkeys(sites, trainer.detector(result, sites))
        if result is not None:
            curves[CENTRALISED] = curve_of(result)
    if names := [name for name in BASELINES if name in wanted]:
        with watch.step("baselines") as step:
            scorers.update(fit_baselines(config, dataset, rows, names, step))
    if together is None:
        return Learned(scorers, None, Curves(curves))
    return Learned(
        scorers,
        together.detector,
        Curves(curves),
        privacy=together.privacy,
        personal=together.own.whose,
        remarks=together.remarks,
        network=None if together.result is None else together.result.weights,
        own_networks=together.own.weights,
    )


def fit_baselines(
    config: Config, dataset: Dataset, rows: TrainingRows, names: Iterable[str], step: Step | None = None
) -> dict[str, dict[str, Scorer]]:
    """The simple methods, each site for itself, with the detector's own smoothing, calibration and threshold rule."""
    found: dict[str, dict[str, Scorer]] = {}
    jobs = [(name, site) for name in names for site in sorted(dataset.shards)]
    for done, (name, site) in enumerate(jobs, 1):
        found.setdefault(name, {})[site] = fit_baseline(
            name,
            dataset.sensors,
            dataset.step_ns / 1e9,
            config.model.steps,
            {site: SensorScaling.from_dict(dataset.own_scaling[site])},
            {site: rows[site]},
            calibration(config),
        )
        if step is not None:
            step.update(done, len(jobs), f"{name} {site}")
    return found
