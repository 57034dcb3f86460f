"""What a configuration says was looked at (`dataset.looked_at`), held against a training, and against a run that is there already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ingestion.errors import StorageError
from ingestion.windowfiles import folders_of
from pipeline.artefacts import ArtefactError, Evaluation, RunSummary, read_evaluation, write_json
from pipeline.config.schema import Config
from pipeline.datasets.leaveout import LeftOut, Period, concerns, matches
from pipeline.datasets.run import Run
from pipeline.datasets.shards import load_dataset
from pipeline.datasets.untouched import Ingested
from pipeline.errors import PipelineError
from pipeline.evaluation.candidate import candidate_remarks
from pipeline.evaluation.lookedat import parted
from pipeline.jobs.leftout import touches_nothing
from pipeline.jobs.settings import dataset_settings, looked_at
from pipeline.remarks import together

_NOTHING = "of dataset.looked_at touches no reading"
"""In every remark on an entry in which nothing lies (`pipeline.jobs.leftout.touches_nothing`)."""


def looked_at_remarks(
    stretches: Sequence[Period],
    leave_out: Sequence[LeftOut],
    seen: Mapping[str, Sequence[Run]],
    until_ns: int | None,
) -> Iterator[tuple[str, str]]:
    """Site and remark on stretches that touch nothing at any site, as after a typo in the year.

    Args:
      stretches: what the configuration says was looked at.
      leave_out: what learning does not see; a stretch may have been looked at first and left out later, which is no typo.
      seen: by site what learning sees.
      until_ns: learning ends before it, ns since 1970 UTC; None is the end of the data.
    """
    for each in stretches:
        if _left_out(each, leave_out):
            continue
        sites = [site for site in sorted(seen) if concerns(each, site)]
        if not any(_touches(each, run) for site in sites for run in seen[site]):
            told = _nothing(each, until_ns)
            yield from ((site, told) for site in sites)


def _left_out(entry: Period, leave_out: Sequence[LeftOut]) -> bool:
    return any(entry.meets(other.from_ns, other.to_ns) for other in leave_out)


def _touches(stretch: Period, run: Run) -> bool:
    # A step stands for the readings since the one before it.
    return matches(run.asset, stretch.assets) and stretch.meets(
        run.start_ns - run.step_ns + 1, run.end_ns + 1
    )


def told_anew(config: Config, folder: Path, summary: RunSummary) -> RunSummary:
    """The summary of the run in a folder by what was looked at until now; where that changed, its evaluation and summary are written anew.

    Raises:
      ArtefactError: the folder cannot be written.
    """
    try:
        earlier = read_evaluation(folder) or Evaluation()
        evaluation = _sorted_anew(config, earlier)
    except (ArtefactError, ValueError):
        # It is damaged, which the page tells; nothing can be told anew.
        return summary
    was, now = (
        together(candidate_remarks(each.candidates, each.looked_at_before)) for each in (earlier, evaluation)
    )
    warnings, notes = (_exchanged(lines, was, now) for lines in (summary.warnings, evaluation.notes))
    stale = [line for line in warnings if _NOTHING in line]
    idle = _idle_entries(config, summary, stale)
    told = replace(summary, warnings=_exchanged(warnings, stale, idle) if stale else (*warnings, *idle))
    evaluation = replace(evaluation, notes=_exchanged(notes, stale, idle))
    # The evaluation last: as long as it is the earlier one all is done again, whatever was killed.
    if told != summary:
        write_json(folder / "summary.json", told)
    if evaluation != earlier:
        write_json(folder / "evaluation.json", evaluation)
    return told


def _idle_entries(config: Config, summary: RunSummary, told: Sequence[str]) -> list[str]:
    """What to tell of entries that touch nothing that a run learned from; of those that its windows, gone or never there, do not tell, what was told before."""
    settings, entries = dataset_settings(config), looked_at(config)
    usable = [each for each in entries if not _left_out(each, settings.leave_out)]
    before = [line for line in told if any(_nothing(each, settings.until_ns) in line for each in usable)]
    data_dir, sites = config.project.data_dir, summary.sites
    if not usable or not any(folders_of(data_dir, site) for site in sites):
        return before
    try:
        dataset = load_dataset(data_dir / "datasets" / (summary.snapshot or ""))
        held = 0 if dataset is None else dataset.max_gap_ns
        found = list(Ingested(data_dir, sites, settings.until_ns, held).untouched(usable))
    except (StorageError, PipelineError):
        return before
    return together((site, _nothing(each, settings.until_ns)) for each, of in found for site in of)


def _nothing(entry: Period, until_ns: int | None) -> str:
    return touches_nothing(entry, "looked_at", until_ns)


def _sorted_anew(config: Config, evaluation: Evaluation) -> Evaluation:
    every = {
        site: sorted(
            (*evaluation.candidates.get(site, ()), *evaluation.looked_at_before.get(site, ())),
            key=lambda each: -each.times_usual,
        )
        for site in sorted({*evaluation.candidates, *evaluation.looked_at_before})
    }
    named, before = parted(every, looked_at(config))
    return replace(evaluation, candidates=named, looked_at_before=before)


def _exchanged(lines: Sequence[str], was: Sequence[str], now: Sequence[str]) -> tuple[str, ...]:
    """The lines with `now` where one of both was; as they are where none was."""
    places = [place for place, line in enumerate(lines) if line in (*was, *now)]
    if not places:
        return tuple(lines)
    rest = (line for line in lines[places[0] :] if line not in (*was, *now))
    return (*lines[: places[0]], *now, *rest)
