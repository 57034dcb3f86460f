"""One site in the scorer: its machines, decoders, alerts waiting to be sent and scores waiting to be written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from kafka import TopicPartition
from numpy.typing import NDArray

from ingestion.decode import Decoder, build_decoder
from ingestion.records import RecordBatch
from pipeline.scoring.alerts import (
    OPEN,
    AlertEvent,
    AlertSource,
    Change,
    Contribution,
    message,
    top_contributions,
)
from pipeline.scoring.asset import AssetState, Job
from pipeline.scoring.buffer import GridRules
from pipeline.scoring.memory import Memory, ModelState
from pipeline.scoring.model import JobScores, ServingModel
from pipeline.scoring.settings import ScoreSettings, SiteScore
from pipeline.scoring.topics import Position
from pipeline.scoring.writer import ScoreWriter


class SiteScorer:
    """State of one site between two commits; touches neither broker nor disk but for `flush_scores`."""

    def __init__(
        self,
        settings: ScoreSettings,
        model: ServingModel,
        site: str,
        logged: Mapping[str, tuple[str, AlertEvent]],
        memories: Mapping[str, Memory],
        counts: SiteScore,
    ) -> None:
        """`logged` is the last alert sent for each machine, `memories` what was remembered of it; `counts` is added to."""
        self.site, self.counts = site, counts
        self._settings, self._model, self._logged = settings, model, logged
        self._memories = dict(memories)
        gap = model.step_ns * 5 if model.max_gap_ns is None else model.max_gap_ns
        if settings.max_gap_s is not None:
            gap = int(settings.max_gap_s * 1e9)
        tolerance = int(settings.event_time.out_of_orderness * 1e9)
        hold = None if model.hold_ns is None else tuple(max(each, gap) for each in model.hold_ns)
        self._rules = GridRules(model.step_ns, gap, tolerance, hold)
        # Neighbouring steps are one alert, however far apart steps are.
        self._hold_off_ns = max(int(settings.hold_off_s * 1e9), model.step_ns)
        # Reading again begins this far back. A remembered state lies between `_settled_ns` and half a frame before it: early
        # enough for all decisions that an open alert rests on, late enough for the grid to be the same again.
        self._settled_ns = self._hold_off_ns + gap + self._rules.tolerance_ns + 2 * model.step_ns
        self._apart_ns = model.steps // 2 * model.step_ns
        self._horizon_ns = self._settled_ns + 2 * self._apart_ns + gap
        self._assets: dict[str, AssetState] = {}
        self._decoders: dict[int, Decoder] = {}
        self._newest_ms: dict[int, int] = {}
        self._positions: dict[TopicPartition, Position] = {}
        self._next: dict[TopicPartition, int] = {}
        self._late = self._duplicate = 0
        self.alerts: list[tuple[str, bytes]] = []
        self._rows: list[tuple[Job, JobScores]] = []

    def start(self, partition: TopicPartition, position: Position) -> None:
        """Begin a partition; messages before `position.committed` only rebuild the state."""
        self._positions[partition] = position
        if position.removed:
            self.counts.removed += position.removed
            # Stored with the next commit, so that it is told once.
            self._next[partition] = position.committed

    def take(self, batch: RecordBatch) -> list[Job]:
        """Decode a batch; history is decided at once and silently, jobs of new steps are returned for `decide`."""
        tp = TopicPartition(batch.topic, batch.partition)
        committed = self._positions[tp].committed
        split = int(np.searchsorted(batch.offsets, committed))
        if split:
            history = self._jobs(_part(batch, slice(0, split), min(committed, batch.next_offset)), live=False)
            self.decide(history, self._model.score(history))
        if split == len(batch.offsets):
            return []
        for asset in self._assets.values():
            if not asset.adopted:
                asset.adopt(self._logged.get(asset.name))
        self._next[tp] = batch.next_offset
        return self._jobs(_part(batch, slice(split, None), batch.next_offset), live=True)

    def _jobs(self, batch: RecordBatch, live: bool) -> list[Job]:
        if batch.partition not in self._decoders:
            self._decoders[batch.partition] = build_decoder(self._settings.decoding())
        decoded = self._decoders[batch.partition].decode(batch)
        readings = decoded.readings
        offset = readings["offset"].to_numpy()
        time = readings["event_time"].cast(pa.int64()).to_numpy()
        heard = batch.timestamps[np.searchsorted(batch.offsets, offset)]
        skew_ns = int(self._settings.event_time.max_future_skew * 1e9)
        future = (heard >= 0) & (time > heard * 1_000_000 + skew_ns)
        if live:
            self.counts.messages += len(batch.offsets)
            self.counts.readings += readings.num_rows
            self.counts.rejected.update(reject.reason for reject in decoded.rejects)
            if future.any():
                self.counts.rejected["future_timestamp"] += int(future.sum())
        names = readings["asset"].combine_chunks().dictionary_encode()
        codes = names.indices.to_numpy(zero_copy_only=False)
        values = _matrix(readings, self._model.sensors)
        order = np.argsort(codes, kind="stable")
        order = order[~future[order]]
        jobs: list[Job] = []
        for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
            if len(rows):
                asset = self._asset(str(names.dictionary[int(codes[rows[0]])]), live)
                asset.heard_ms = max(asset.heard_ms, int(heard[rows].max()))
                jobs += asset.add(
                    time[rows], values[rows], batch.partition, int(offset[rows[0]]), self._horizon_ns, live
                )
        if len(heard):
            self._newest_ms[batch.partition] = max(self._newest_ms.get(batch.partition, 0), int(heard.max()))
        if live:
            self._count_discarded()
        return jobs

    def _asset(self, name: str, live: bool) -> AssetState:
        asset = self._assets.get(name)
        if asset is None:
            model, memory = self._model, self._memories.get(name)
            fits = memory is not None and memory.fits(model.name, model.version, model.state_shapes)
            asset = AssetState(
                self.site,
                name,
                self._rules,
                len(model.sensors),
                self._hold_off_ns,
                memory if fits else None,
                None if memory is None else memory.held_of(model.sensors),
            )
            if live:
                asset.adopt(self._logged.get(name))
            self._assets[name] = asset
        return asset

    def _count_discarded(self) -> None:
        late = sum(asset.grid.late for asset in self._assets.values())
        duplicate = sum(asset.grid.duplicate for asset in self._assets.values())
        self.counts.late += max(0, late - self._late)
        self.counts.duplicate += max(0, duplicate - self._duplicate)
        self._late, self._duplicate = late, duplicate
        self.counts.machines = max(self.counts.machines, len(self._assets))

    def decide(self, jobs: Sequence[Job], scores: Sequence[JobScores]) -> None:
        """Advance the alerts by scored steps; messages and rows of live steps wait for the commit."""
        for job, found in zip(jobs, scores, strict=True):

            def describe(i: int, job: Job = job, found: JobScores = found) -> Sequence[Contribution]:
                return top_contributions(
                    found.contribution[i], job.rows[i], self._model.sensors, self._settings.top_sensors
                )

            asset, before = job.asset, job.asset.model_state

            def suspects(
                i: int, job: Job = job, before: ModelState | None = before
            ) -> Sequence[tuple[str, str]]:
                return self._model.suspects(job.site, before, job.rows[: i + 1])

            asset.remember(job, found.state, self._apart_ns, self._horizon_ns)
            changes = asset.tracker.advance(job.time_ns, found.score, found.threshold, describe, suspects)
            if not job.live:
                continue
            self.counts.steps += len(job.time_ns)
            self.counts.scored += int(np.isfinite(found.score).sum())
            self.counts.flagged += int((found.score > found.threshold).sum())
            self._announce(asset, changes)
            if self._settings.scores_dir is not None:
                self._rows.append((job, found))

    def close_silent(self) -> None:
        """End alerts of machines that stopped sending, and forget machines silent for longer than is looked back."""
        newest = max(self._newest_ms.values(), default=0)
        patience_ms = (self._hold_off_ns + self._rules.max_gap_ns + self._rules.tolerance_ns) // 1_000_000
        for asset in list(self._assets.values()):
            if not asset.adopted:
                continue
            change = asset.close_if_silent(newest - patience_ms)
            if change is not None:
                self._announce(asset, [change])
            if asset.heard_ms < newest - self._horizon_ns // 1_000_000 - patience_ms:
                self._late -= asset.grid.late
                self._duplicate -= asset.grid.duplicate
                del self._assets[asset.name]

    def _announce(self, asset: AssetState, changes: Sequence[Change]) -> None:
        model = self._model
        source = AlertSource(self.site, asset.name, model.name, model.version, self.site in model.sites)
        for change in changes:
            self.alerts.append((asset.name, message(change, source)))
            if change.state == OPEN:
                self.counts.opened += 1
            else:
                self.counts.closed += 1

    def offsets(self) -> dict[TopicPartition, tuple[int, int]]:
        """What to store: partition -> (next offset, offset from which reading back rebuilds the state)."""
        found = {}
        for tp, following in self._next.items():
            marks = [asset.resume_offset(tp.partition) for asset in self._assets.values()]
            found[tp] = (following, min([following, *(m for m in marks if m is not None)]))
        return found

    def memories(self) -> list[tuple[str, bytes]]:
        """`(asset, message)` of what has to be remembered from now on, to be stored with the offsets."""
        found = []
        for asset in self._assets.values():
            kept = asset.to_keep(asset.grid.newest_ns - self._settled_ns)
            if kept is not None:
                model = self._model
                memory = Memory(model.name, model.version, kept.time_ns, kept.state, model.sensors, kept.held)
                self._memories[asset.name] = memory
                found.append((asset.name, memory.to_bytes()))
        return found

    def committed(self, writer: ScoreWriter | None) -> None:
        """The broker has stored `alerts` and `offsets`: write the scores and start collecting anew."""
        self.alerts = []
        self._next = {}
        if writer is not None:
            for job, found in self._rows:
                writer.write(
                    job.asset.name, job.time_ns, found.score, found.threshold, found.contribution, job.rows
                )
        self._rows = []


def make_writer(settings: ScoreSettings, model: ServingModel, site: str) -> ScoreWriter | None:
    """The site's score file, None if none is wanted."""
    if settings.scores_dir is None:
        return None
    return ScoreWriter(Path(settings.scores_dir), site, model.sensors, top=settings.top_sensors, extend=True)


def _part(batch: RecordBatch, rows: slice, next_offset: int) -> RecordBatch:
    return RecordBatch(
        batch.site,
        batch.topic,
        batch.partition,
        batch.offsets[rows],
        batch.timestamps[rows],
        batch.keys[rows],
        batch.values[rows],
        next_offset,
    )


def _matrix(readings: pa.Table, sensors: Sequence[str]) -> NDArray[np.float64]:
    """Columns of the detector's sensors as float64[N, F]; NaN for null and for sensors that did not come."""
    values: NDArray[Any] = np.full((readings.num_rows, len(sensors)), np.nan)
    have = set(readings.column_names)
    for j, sensor in enumerate(sensors):
        if sensor in have:
            values[:, j] = readings[sensor].to_numpy(zero_copy_only=False)
    return values
