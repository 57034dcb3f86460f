"""The JSON files of a run folder as typed values: `curves.json`, `evaluation.json`, `summary.json`.

Whoever runs a training writes them, the report and `--json` read them. Every class has `to_json` (plain dict, NaN and
infinities become null) and `from_json` (unknown keys are ignored, missing ones take their default), so an older report
reads a newer run and the other way round. Files are replaced atomically: a reader never sees half of one.
"""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.evaluation.candidate import Candidate, as_toml, from_json, to_json
from pipeline.evaluation.metrics import Metrics

FEDERATED, LOCAL, CENTRALISED, ZSCORE, PCA = "federated", "local", "centralised", "zscore", "pca"
MODES = (FEDERATED, LOCAL, CENTRALISED, ZSCORE, PCA)
"""Ways of training that are compared, in the order in which they are shown. Others may follow by name."""
BASELINES = (ZSCORE, PCA)
"""Those that need no training by rounds."""


class ArtefactError(PipelineError):
    """A file of the run folder exists but is not what its name says."""

    exit_code = 5


class Unwritable(ArtefactError):
    """A file of the run folder cannot be written."""

    exit_code = 6

    @classmethod
    def by(cls, path: Path, error: OSError) -> "Unwritable":
        """The error about this file; Arrow's own words about it name a hidden one."""
        reason = os.strerror(error.errno) if error.errno else str(error)
        return cls(f"{path}: cannot be written ({reason}); check the folder's space and rights")


def _plain(value: Any) -> Any:
    """JSON-safe copy: numpy scalars to Python, NaN and infinities to None, tuples to lists."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _known(cls: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(cls)}
    return {k: v for k, v in raw.items() if k in names}


@dataclass(frozen=True)
class RoundRecord:
    """One round of one mode.

    Attributes:
        round: 1-based number.
        loss: mean training loss, None if the mode has none.
        validation: mean validation loss over sites after the round.
        seconds: wall time of the round.
        sites: validation loss by site.
    """

    round: int
    loss: float | None = None
    validation: float | None = None
    seconds: float = 0.0
    sites: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Curve:
    """The learning curve of one mode; `chosen_round` is the one whose weights are kept, `stopped` says why it ended.

    `privacy` is what its noise promises (`pipeline.federation.privacy.Budget`), `excluded` the sites that were left out on the
    way, with the reason.
    """

    rounds: tuple[RoundRecord, ...] = ()
    chosen_round: int | None = None
    stopped: str | None = None
    privacy: Mapping[str, Any] | None = None
    excluded: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Curve":
        """Inverse of `asdict`."""
        rounds = tuple(RoundRecord(**_known(RoundRecord, r)) for r in raw.get("rounds") or ())
        return cls(
            rounds,
            raw.get("chosen_round"),
            raw.get("stopped"),
            raw.get("privacy"),
            dict(raw.get("excluded") or {}),
        )


@dataclass(frozen=True)
class Curves:
    """`curves.json`: `{mode: {rounds: [{round, loss, validation, seconds, sites}], chosen_round, stopped, privacy, excluded}}`."""

    modes: Mapping[str, Curve] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain dict for `json.dumps`."""
        return {mode: _plain(asdict(curve)) for mode, curve in self.modes.items()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Curves":
        """Inverse of `to_json`."""
        return cls({mode: Curve.from_json(curve) for mode, curve in raw.items()})


@dataclass(frozen=True)
class Expected:
    """What a detector of each site's earlier training rows flags of its later ones, beside what the configuration promises.

    Attributes:
        promised: share of normal steps, None if alarms a week are promised.
        promised_per_week: alarms a week, None if a share is promised.
        sites: figures without labels by site that has rows enough for it.
        mean: over these sites.
    """

    promised: float | None = None
    promised_per_week: float | None = None
    sites: Mapping[str, Metrics] = field(default_factory=dict)
    mean: Metrics = field(default_factory=Metrics)

    @property
    def promise(self) -> float:
        """In `unit`."""
        return (self.promised if self.promised_per_week is None else self.promised_per_week) or 0.0

    @property
    def unit(self) -> str:
        """What is promised."""
        return "normal steps flagged" if self.promised_per_week is None else "false alarms a week"

    def figure(self, metrics: Metrics) -> float | None:
        """What is held against the promise, in its unit; where no step is labelled, all count as normal."""
        if self.promised_per_week is None:
            known = metrics.false_flagged_share
            return metrics.flagged_share if known is None else known
        known, each_day = metrics.false_alarms_per_week, metrics.alarms_per_day
        return 7.0 * each_day if known is None and each_day is not None else known

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Expected":
        """Inverse of `asdict`."""
        return cls(
            raw.get("promised"),
            raw.get("promised_per_week"),
            {site: Metrics.from_json(m) for site, m in (raw.get("sites") or {}).items()},
            Metrics.from_json(raw.get("mean") or {}),
        )


@dataclass(frozen=True)
class Evaluation:
    """`evaluation.json`: `{sites: {site: {mode: metrics}}, mean: {mode: metrics}, notes: [..], expected: {..} or null}`.

    `candidates`, by site, are stretches of the training to look at (`pipeline.evaluation.standing_out`); `leave_out` and `looked_at` in the file have
    them as TOML, for either table of `[dataset]`. `looked_at_before` are those of which the configuration says that they were.
    """

    sites: Mapping[str, Mapping[str, Metrics]] = field(default_factory=dict)
    mean: Mapping[str, Metrics] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    expected: Expected | None = None
    candidates: Mapping[str, tuple[Candidate, ...]] = field(default_factory=dict)
    looked_at_before: Mapping[str, tuple[Candidate, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain dict for `json.dumps`."""
        return _plain(
            {
                "sites": {
                    site: {mode: asdict(m) for mode, m in modes.items()} for site, modes in self.sites.items()
                },
                "mean": {k: asdict(m) for k, m in self.mean.items()},
                "notes": self.notes,
                "expected": None if self.expected is None else asdict(self.expected),
                "candidates": to_json(self.candidates),
                "leave_out": as_toml(self.candidates, "leave_out"),
                "looked_at": as_toml(self.candidates, "looked_at"),
                "looked_at_before": to_json(self.looked_at_before),
            }
        )

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Evaluation":
        """Inverse of `to_json`."""
        sites = {
            site: {mode: Metrics.from_json(m) for mode, m in modes.items()}
            for site, modes in (raw.get("sites") or {}).items()
        }
        mean = {mode: Metrics.from_json(m) for mode, m in (raw.get("mean") or {}).items()}
        expected = raw.get("expected")
        return cls(
            sites,
            mean,
            tuple(raw.get("notes") or ()),
            None if expected is None else Expected.from_json(expected),
            from_json(raw.get("candidates") or {}),
            from_json(raw.get("looked_at_before") or {}),
        )

    @classmethod
    def of_sites(
        cls, sites: Mapping[str, Mapping[str, Metrics]], notes: tuple[str, ...] = ()
    ) -> "Evaluation":
        """The evaluation with `mean` filled in: per mode, each figure averaged over the sites that have it.

        Counts (`events`, `rows`, `alarms`, `false_alarms`) are summed, delays joined; what is on a site's own scale has no mean.
        """
        modes = dict.fromkeys(mode for by_mode in sites.values() for mode in by_mode)
        mean = {mode: _mean([by[mode] for by in sites.values() if mode in by]) for mode in modes}
        return cls(sites, mean, notes)


def _mean(metrics: list[Metrics]) -> Metrics:
    values: dict[str, Any] = {}
    for name in (f.name for f in fields(Metrics)):
        got = [v for v in (getattr(m, name) for m in metrics) if v is not None]
        if name == "detection_delay":
            values[name] = tuple(delay for m in metrics for delay in m.detection_delay)
        elif name in ("events", "rows", "alarms", "false_alarms"):
            values[name] = sum(got) if got else None
        elif name not in ("threshold", "score_quantiles"):
            got = [v for v in got if math.isfinite(v)]
            values[name] = sum(got) / len(got) if got else None
    return Metrics(**values)


@dataclass(frozen=True)
class IngestionCounts:
    """Where the messages and readings of one site went; `read` counts messages, the others readings unless said.

    Attributes:
        read: messages taken off the topic.
        kept: readings in window files, addenda included.
        late: readings that came after their window had closed (kept as addenda or sent to the late topic).
        duplicate: readings dropped because asset, event time and sequence had been seen.
        dead_lettered: messages sent to the dead-letter topic.
        reasons: dead letters by reason.
        windows: window files published.
        left_open: readings of windows that are not closed yet; the next run reads them again.
        already_handled: readings that were on disk before, read again after a process was killed.
        sensors: values dropped by the sensor mapping, sensor -> reason -> number.
        repaired: what was mended or left out inside messages that were kept, by name (`docs/reference/formats.md`).
    """

    read: int = 0
    kept: int = 0
    late: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    windows: int = 0
    left_open: int = 0
    sensors: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    repaired: Mapping[str, int] = field(default_factory=dict)
    already_handled: int = 0


@dataclass(frozen=True)
class RunSummary:
    """`summary.json`, also what `fedplant run --json` prints.

    Attributes:
        run_id: name of the run folder.
        status: `trained`, `nothing_new` or `failed`.
        started: ISO-8601 UTC.
        finished: ISO-8601 UTC.
        seconds: wall time by step (`ingest`, `train`, `evaluate`, `export`, `score`, `total`).
        command: what was typed.
        snapshot: snapshot id.
        detector: name of the detector.
        version: its integer version.
        model_path: folder of the SavedModel.
        report_path: the HTML page.
        run_path: the run folder.
        sites: all sites of the run, in order.
        skipped_sites: site -> why it took no part.
        sensors: how many sensors the detector knows.
        frames: training frames by site.
        rounds: rounds executed by mode.
        ingestion: what this start itself took off the topics, by site; an ingestion before it kept its own counts.
        on_disk: readings in the window files that the run is made from, by site, whichever ingestion wrote them.
        metrics: mean metrics by mode (as `evaluation.json`'s `mean`).
        warnings: what the user should know, one line each.
        left_out: readings that learning was told not to see (`dataset.leave_out`, `--leave-out-labelled`), by site that has any.
        labels_in_learning: labels said which.
    """

    run_id: str
    status: str = "trained"
    started: str | None = None
    finished: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    command: str | None = None
    snapshot: str | None = None
    detector: str | None = None
    version: int | None = None
    model_path: str | None = None
    report_path: str | None = None
    run_path: str | None = None
    sites: tuple[str, ...] = ()
    skipped_sites: Mapping[str, str] = field(default_factory=dict)
    sensors: int | None = None
    frames: Mapping[str, int] = field(default_factory=dict)
    rounds: Mapping[str, int] = field(default_factory=dict)
    ingestion: Mapping[str, IngestionCounts] = field(default_factory=dict)
    on_disk: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, Metrics] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    labels_in_learning: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain dict for `json.dumps`."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "RunSummary":
        """Inverse of `to_json`."""
        known = _known(cls, raw)
        known.setdefault("run_id", "unnamed")
        known["sites"] = tuple(known.get("sites") or ())
        known["warnings"] = tuple(known.get("warnings") or ())
        known["metrics"] = {m: Metrics.from_json(v) for m, v in (known.get("metrics") or {}).items()}
        known["ingestion"] = {
            site: IngestionCounts(**_known(IngestionCounts, counts))
            for site, counts in (known.get("ingestion") or {}).items()
        }
        return cls(**known)


def write_json(path: Path, value: "Curves | Evaluation | RunSummary | Mapping[str, Any]") -> None:
    """Write `value` to `path` atomically (temporary file beside it, fsync, rename).

    Raises:
        Unwritable: the folder cannot be.
    """
    raw = _plain(value) if isinstance(value, Mapping) else value.to_json()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(raw, file, indent=1, ensure_ascii=False, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise Unwritable.by(path, error) from error


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`, or None if there is no such file.

    Raises:
        ArtefactError: the file is not a JSON object.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{path}: not readable as JSON ({error}); run the training again") from error
    if not isinstance(raw, dict):
        raise ArtefactError(f"{path}: expected a JSON object, found {type(raw).__name__}")
    return raw


def read_curves(run_dir: Path) -> Curves | None:
    """`curves.json` of a run folder, None if absent. Raises ArtefactError as `read_json`."""
    return _read(run_dir / "curves.json", Curves)


def read_evaluation(run_dir: Path) -> Evaluation | None:
    """`evaluation.json` of a run folder, None if absent. Raises ArtefactError as `read_json`."""
    return _read(run_dir / "evaluation.json", Evaluation)


def read_summary(run_dir: Path) -> RunSummary | None:
    """`summary.json` of a run folder, None if absent. Raises ArtefactError as `read_json`."""
    return _read(run_dir / "summary.json", RunSummary)


def _read(path: Path, kind: Any) -> Any:
    raw = read_json(path)
    if raw is None:
        return None
    try:
        return kind.from_json(raw)
    except (TypeError, AttributeError, ValueError) as error:
        raise ArtefactError(f"{path}: not a {kind.__name__} ({error}); run the training again") from error
