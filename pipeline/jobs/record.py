"""What a training leaves in its run folder, whoever started it; the report and later runs read it back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.detector import Detector
from pipeline.artefacts import BASELINES, LOCAL, MODES, Evaluation, RunSummary, write_json
from pipeline.config.schema import Config
from pipeline.datasets.coderemarks import code_remarks
from pipeline.datasets.codes import codes_of
from pipeline.datasets.parts import left_out_counters
from pipeline.datasets.prepared import Prepared
from pipeline.datasets.shards import Dataset
from pipeline.evaluation.candidate import candidate_remarks
from pipeline.evaluation.expectation import loud
from pipeline.jobs.beforehand import alone, counting, finer, unknown_sensors
from pipeline.jobs.leftout import left_out_counts, left_out_remarks
from pipeline.jobs.lookedat import looked_at_remarks
from pipeline.jobs.settings import looked_at
from pipeline.learning.learn import fit_baselines
from pipeline.learning.learned import Learned, Scorer
from pipeline.manifest import manifest
from pipeline.remarks import listed, together

_OF_EACH_SITE = (LOCAL, *BASELINES)


def summarise(
    folder: Path, config: Config, prepared: Prepared, learned: Learned, evaluation: Evaluation, **known: Any
) -> RunSummary:
    """What `summary.json` holds; `known` are the fields that only the caller can say (times, model, ingestion)."""
    dataset = prepared.dataset
    return RunSummary(
        run_id=folder.name,
        snapshot=dataset.id,
        detector=config.project.name,
        run_path=str(folder),
        sites=tuple(sorted(dataset.shards)),
        skipped_sites=prepared.skipped,
        sensors=len(dataset.sensors),
        frames={site: shard.train_frames for site, shard in dataset.shards.items()},
        rounds={mode: len(curve.rounds) for mode, curve in learned.curves.modes.items()},
        metrics=evaluation.mean,
        left_out=left_out_counts(dataset.outcomes),
        labels_in_learning=labels_in_learning(prepared),
        warnings=(
            *together([*readings_remarks(config, prepared), *learned.remarks]),
            *together(candidate_remarks(evaluation.candidates, evaluation.looked_at_before)),
            *loud(evaluation),
        ),
        **known,
    )


def write_run(
    folder: Path,
    config: Config,
    prepared: Prepared,
    learned: Learned,
    evaluation: Evaluation,
    summary: RunSummary,
) -> None:
    """Write the run folder; the summary comes last, because its presence says that the run is complete.

    Raises:
      ArtefactError: the folder cannot be written.
    """
    save_detectors(folder / "detectors", learned.scorers)
    write_json(folder / "manifest.json", run_manifest(config, prepared, learned))
    write_json(folder / "curves.json", learned.curves)
    write_json(folder / "evaluation.json", evaluation)
    write_json(folder / "summary.json", summary)


def run_manifest(config: Config, prepared: Prepared, learned: Learned) -> dict[str, Any]:
    """Everything that is needed to make the result again, what its noise promises, which sites have weights of their own, and if readings are left out of
    learning how many of each and whether labels had a say in it, and which counters are left out.
    """
    dataset = prepared.dataset
    made = manifest(config, dataset.id, list(dataset.sensors), dataset.step_ns / 1e9)
    left_out = left_out_counts(dataset.outcomes)
    told: dict[str, Any] = {}
    if left_out:
        told = {"left_out": left_out, "labels_in_learning": labels_in_learning(prepared)}
    if counters := left_out_counters(dataset.sensors, dataset.outcomes.values()):
        told["left_out_counters"] = list(counters)
    return {**made, "privacy": dict(learned.privacy), "own_models": dict(learned.personal), **told}


def labels_in_learning(prepared: Prepared) -> bool:
    """Whether labels said what learning does not see."""
    return any(each.labelled for each in prepared.leave_out)


def save_detectors(folder: Path, scorers: Mapping[str, Mapping[str, Scorer]]) -> None:
    """Keep every detector, so that later readings and labels can be judged without training again."""
    for mode, by_site in scorers.items():
        for site, scorer in by_site.items():
            path = detector_path(folder, mode, site)
            if isinstance(scorer, Detector) and (mode in _OF_EACH_SITE or site == min(by_site)):
                path.parent.mkdir(parents=True, exist_ok=True)
                scorer.save(path)


def load_detectors(folder: Path, sites: list[str]) -> dict[str, dict[str, Scorer]]:
    """By way of training, by site, what `save_detectors` kept; ways that a run did not go are left out."""
    found: dict[str, dict[str, Scorer]] = {}
    for mode in MODES:
        loaded: dict[Path, Scorer] = {}
        for site in sites:
            path = detector_path(folder, mode, site)
            if path.exists():
                loaded[path] = loaded.get(path) or Detector.load(path)
                found.setdefault(mode, {})[site] = loaded[path]
    return found


def with_baselines(
    config: Config, prepared: Prepared, scorers: Mapping[str, Mapping[str, Scorer]]
) -> dict[str, Mapping[str, Scorer]]:
    """The same detectors and the baselines beside them; those that a run without comparison did not fit are fitted."""
    missing = [name for name in BASELINES if name not in scorers]
    fitted = fit_baselines(config, prepared.dataset, prepared.training_rows(), missing) if missing else {}
    return {**scorers, **fitted}


def detector_path(folder: Path, mode: str, site: str) -> Path:
    """Where a way of training keeps its detector: one for all sites, or each site's own."""
    return folder / mode / (site if mode in _OF_EACH_SITE else "all")


def readings_remarks(config: Config, prepared: Prepared) -> Iterator[tuple[str, str]]:
    """Site and remark on what there is to learn from."""
    dataset = prepared.dataset
    able = {site: dataset.outcomes[site] for site in dataset.shards}
    yield from alone(dataset.sensors, able)
    yield from left_out_remarks(prepared.leave_out, dataset.outcomes, prepared.until_ns)
    seen = {site: prepared.seen(site) for site in dataset.shards}
    yield from looked_at_remarks(looked_at(config), prepared.leave_out, seen, prepared.until_ns)
    for site in dataset.shards:
        dropped = prepared.out_of_range(site)
        if dropped:
            told = listed(f"{sensor} {count:,}" for sensor, count in sorted(dropped.items()))
            yield site, f"values outside the valid range, left out: {told}"
    codes = {
        site: codes_of(dataset.sensors, [run.values for run in prepared.runs(site)])
        for site in sorted(dataset.shards)
    }
    yield from code_remarks(codes, config)
    yield from counting(dataset.sensors, able)
    yield from unknown_sensors(dataset.unknown)
    yield from finer(dataset.step_ns, dataset.finer_ns, able)
    for site, outcome in sorted(dataset.outcomes.items()):
        if outcome.excluded is None and outcome.validation_rows == 0:
            yield site, "too short to hold rows back, so it is not validated"
        if outcome.excluded is None and not outcome.moving(dataset.sensors):
            yield site, "none of its sensors moved in training, so nothing can be found but that one does"
        if outcome.silent:
            yield site, f"sent no {listed(outcome.silent)} while learning"
        unlogged = _without_logarithm(dataset, site)
        if unlogged:
            yield (
                site,
                f"no reading above 0, so none has a logarithm and all count as unknown: {listed(unlogged)} (detector.logarithms)",
            )
        if outcome.faint:
            names = listed(outcome.faint)
            yield (
                site,
                f"moves by less than a hundred-thousandth of its size, so it counts as constant: {names} (subtract an offset)",
            )
        coded = {code.sensor for code in codes.get(site, ())}
        if absurd := [name for name in outcome.implausible if name not in coded]:
            yield (
                site,
                f"values out of all proportion, left out of the scale: {listed(absurd)} (set min and max, [ingestion.sensors.NAME])",
            )


def _without_logarithm(dataset: Dataset, site: str) -> list[str]:
    """Sensors of a site that reported, but nothing that has the logarithm which is asked for."""
    floor = dataset.scaling.get(site, {}).get("floor") or ()
    silent = dataset.outcomes[site].silent
    return [
        name
        for name, lowest in zip(dataset.sensors, floor, strict=False)
        if lowest == 0 and name not in silent
    ]
