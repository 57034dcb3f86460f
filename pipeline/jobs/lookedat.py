"""What a configuration says was looked at (`dataset.looked_at`), held against a training, and against a run that is there already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.artefacts import ArtefactError, Evaluation, RunSummary, read_evaluation, write_json
from pipeline.config.schema import Config
from pipeline.datasets.leaveout import LeftOut, Period, concerns, matches
from pipeline.datasets.run import Run
from pipeline.evaluation.candidate import candidate_remarks
from pipeline.evaluation.lookedat import parted
from pipeline.jobs.leftout import touches_nothing
from pipeline.jobs.settings import looked_at
from pipeline.remarks import together


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
        if any(each.meets(other.from_ns, other.to_ns) for other in leave_out):
            continue
        sites = [site for site in sorted(seen) if concerns(each, site)]
        if not any(_touches(each, run) for site in sites for run in seen[site]):
            told = touches_nothing(each, "looked_at", until_ns)
            yield from ((site, told) for site in sites)


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
    if evaluation == earlier:
        return summary
    was, now = (
        together(candidate_remarks(each.candidates, each.looked_at_before)) for each in (earlier, evaluation)
    )
    summary = replace(summary, warnings=_exchanged(summary.warnings, was, now))
    evaluation = replace(evaluation, notes=_exchanged(evaluation.notes, was, now))
    # The evaluation last: as long as it is the earlier one all is done again, whatever was killed.
    write_json(folder / "summary.json", summary)
    write_json(folder / "evaluation.json", evaluation)
    return summary


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
