"""`fedplant backtest --recipe`: several settings under names, learned and judged on the same readings, in one table."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import ModelError
from pipeline.artefacts import Evaluation
from pipeline.config.chosen import recipe_configs, recipe_remarks
from pipeline.config.recipes import RecipeConfig
from pipeline.config.schema import Config
from pipeline.datasets.prepared import Prepared
from pipeline.errors import ConfigError, NothingToDo, TrainingFailed
from pipeline.evaluation.judging import judge
from pipeline.evaluation.ranking import mean_ranks
from pipeline.evaluation.unscored import unscored_notes
from pipeline.jobs.backtest import result_folder, to_judge
from pipeline.jobs.exports import Exports
from pipeline.jobs.job import prepare_training
from pipeline.jobs.record import readings_remarks, run_manifest
from pipeline.learning.learn import learn
from pipeline.learning.learned import Learned
from pipeline.remarks import together
from pipeline.watch import Watch


@dataclass(frozen=True)
class Compared:
    """One recipe: its figures by site under its name, seconds to learn and judge, and how it was made; `failed` says why it has none."""

    mode: str
    evaluation: Evaluation
    seconds: float
    manifest: Mapping[str, Any]
    failed: str | None = None


@dataclass(frozen=True)
class Comparison:
    """All recipes in the order asked for, and what the readings had to say (`notes`)."""

    recipes: Mapping[str, Compared]
    notes: tuple[str, ...]

    @property
    def ranks(self) -> dict[str, float]:
        """Mean rank of each recipe by AUC-PR over the sites where all that did not fail have one, 1 is best; empty without labels."""
        judged = {name: of.evaluation.sites for name, of in self.recipes.items() if of.failed is None}
        areas = {
            name: {site: figures[name].auc_pr for site, figures in sites.items() if name in figures}
            for name, sites in judged.items()
        }
        every = [site for site in next(iter(areas.values()), {}) if _known(areas, site)]
        if not every:
            return {}
        table = np.array([[areas[name][site] for site in every] for name in areas], np.float64)
        return dict(zip(areas, mean_ranks(table).tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        ranks = self.ranks
        found = {}
        for name, of in self.recipes.items():
            plain = of.evaluation.to_json()
            found[name] = {
                "mode": of.mode,
                "mean": plain["mean"].get(name),
                "mean_rank": ranks.get(name),
                "sites": {site: figures.get(name) for site, figures in plain["sites"].items()},
                "seconds": of.seconds,
                "failed": of.failed,
                "manifest": of.manifest,
            }
        return {"recipes": found, "notes": list(self.notes)}


def compare_recipes(
    exports: Exports, recipes: Mapping[str, RecipeConfig], *, work_dir: Path | None, watch: Watch
) -> Comparison:
    """Learn by each recipe on readings before `dataset.train_until` and judge on those from it on.

    Recipes that train the same network train it once. A recipe that cannot learn from these readings, or that they refuse (too few sites, no such
    sensor), is told with its reason, and the others go on.

    Args:
      exports: the site files and the settings that recipes differ from.
      recipes: by name.
      work_dir: keeps data sets and checkpoints; None discards them.
      watch: is told about every step.

    Raises:
      ConfigError: the keys of a recipe are refused, or the readings refuse all recipes.
      NothingToDo: no recipe could learn.
    """
    configs = recipe_configs(exports.config, recipes)
    prepared: dict[str, Prepared] = {}
    found: dict[str, Compared] = {}
    refused = set()
    notes = dict.fromkeys(recipe_remarks(exports.config, recipes))
    with result_folder(work_dir) as folder:
        for name, config in configs.items():
            watch.say(f"recipe {name}")
            began = time.monotonic()
            snapshot = exports.snapshot(config)
            try:
                if snapshot.id not in prepared:
                    prepared[snapshot.id] = prepare_training(
                        config, folder / "datasets", snapshot, exports.readings, watch
                    )
                ready = prepared[snapshot.id]
                evaluation, learned = _judged(
                    name, recipes[name].mode, config, ready, folder / "training", exports, watch
                )
            except (ConfigError, TrainingFailed, NothingToDo, ModelError) as error:
                if isinstance(error, ConfigError):
                    refused.add(name)
                found[name] = Compared(recipes[name].mode, Evaluation(), 0.0, {}, str(error))
                continue
            notes.update(dict.fromkeys(together(ready.skipped)))
            remarks = together([*readings_remarks(config, ready), *learned.remarks])
            notes.update(dict.fromkeys((*remarks, *evaluation.notes)))
            manifest = run_manifest(config, ready, learned)
            seconds = round(time.monotonic() - began, 3)
            found[name] = Compared(recipes[name].mode, evaluation, seconds, manifest)
    if all(of.failed for of in found.values()):
        reasons = "; ".join(dict.fromkeys(str(of.failed) for of in found.values()))
        raise ConfigError(reasons) if refused == set(found) else NothingToDo(reasons)
    return Comparison(found, tuple(notes))


def _judged(
    name: str, mode: str, config: Config, ready: Prepared, root: Path, exports: Exports, watch: Watch
) -> tuple[Evaluation, Learned]:
    dataset = ready.dataset
    # The network depends on neither the detector's settings nor the recipe's name.
    trained = {
        "snapshot": dataset.id,
        "model": config.model.model_dump(mode="json"),
        "training": config.training.model_dump(mode="json"),
    }
    workdir = root / hashlib.sha256(json.dumps(trained, sort_keys=True).encode()).hexdigest()[:12]
    judged = to_judge(ready, exports)
    learned = learn(config, dataset, ready.training_rows(), (mode,), workdir=workdir, watch=watch)
    with watch.step("judging") as step:
        evaluation = judge(
            {name: learned.scorers[mode]}, judged, dataset.step_ns / 1e9, config.scoring.hold_off, step
        )
    notes = (*evaluation.notes, *unscored_notes(ready, learned.detector, judged, exports.labels))
    return replace(evaluation, notes=notes), learned


def _known(areas: Mapping[str, Mapping[str, float | None]], site: str) -> bool:
    return all(of.get(site) is not None for of in areas.values())
