"""The worker between the Kafka loop and the disk: what it lets be committed, and when it publishes."""

import contextvars
import gc
import json
import math
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ingestion.counts import SiteCounts
from ingestion.errors import StorageError
from ingestion.lane import new_lane
from ingestion.records import Decoded, RecordBatch, Reject, empty_readings
from ingestion.resume import Bounds, Committed, resume
from ingestion.settings import DecodeRules
from ingestion.store import Identity
from ingestion.tasks import _ASKED, Ending, heed
from ingestion.worker import Worker
from tests.ingestion.harness import START_MS, reading, settings_for
from tests.waiting import HANGS, wait_for

PLACE = ("iiot.plant.telemetry.v1", 0)
IDENTITY = Identity("plant", "cluster", *PLACE[:1], "topic-id", 0)


def batch(seconds: range) -> RecordBatch:
    values: list[bytes | None] = [reading(s) for s in seconds]
    offsets = np.array(seconds, dtype=np.int64)
    return RecordBatch("plant", *PLACE, offsets, offsets * 0 - 1, [b"k"] * len(values), values, seconds.stop)


class Bench:
    """One partition of a worker, without Kafka."""

    def __init__(self, folder: Path, assure=lambda *_: None, decode: DecodeRules | None = None) -> None:
        none = SimpleNamespace(bootstrap="none")
        self.settings = settings_for(none, "plant", folder, decode=decode or DecodeRules())
        self.folder, self.counts = folder, SiteCounts()
        self.worker = Worker(self.settings, assure)
        self.open(None)

    def open(self, committed: Committed | None) -> None:
        start = resume(self.settings, IDENTITY, committed, Bounds(0, 10**6))
        self.worker.open(PLACE, new_lane(self.settings, self.settings.sites[0], start, self.counts))

    def take(self, seconds: range) -> None:
        self.worker.feed(PLACE, batch(seconds), 1)

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("windows/*/*/*/*.parquet"))

    def position(self) -> int | None:
        mark = self.worker.snapshot().marks.get(PLACE)
        return None if mark is None else mark.offset


def test_nothing_is_published_or_committed_before_the_topic_was_seen_after_the_last_record(tmp_path: Path):
    asked, go = list[tuple[str, str, float]](), threading.Event()

    def assure(*known) -> None:
        asked.append(known)
        assert go.wait(HANGS)

    bench = Bench(tmp_path, assure)
    bench.take(range(30))
    assert bench.worker.drain(HANGS) and not asked and bench.position() == 0
    before = time.monotonic()
    bench.take(range(30, 100))
    after = time.monotonic()
    wait_for(lambda: asked)
    assert (bench.files(), bench.position()) == ([], None)
    assert asked[0][:2] == (PLACE[0], "topic-id") and before <= asked[0][2] <= after
    go.set()
    assert bench.worker.drain(HANGS)
    assert (len(bench.files()), bench.position()) == (1, 60)
    bench.worker.end()


def test_a_process_that_has_to_end_publishes_nothing_that_is_not_assured(tmp_path: Path):
    def assure(*_) -> None:
        raise Ending

    bench = Bench(tmp_path, assure)
    bench.take(range(100))
    bench.take(range(100, 200))
    assert bench.worker.drain(HANGS)
    bench.worker.end()
    assert (bench.files(), bench.position(), bench.counts.messages) == ([], None, 100)
    bench.worker.drop(PLACE)
    assert bench.counts.left_open == 100 and bench.counts.balanced


def mixed(second: int) -> bytes:
    """A reading whose neighbours write numbers otherwise, which no columns take."""
    values = {f"s{at}": second + at if second % 2 else f"{second + at}" for at in range(9)}
    return json.dumps({"asset": "m", "ts": START_MS + 1000 * second, "values": values}).encode()


def texts(second: int) -> bytes:
    """A reading whose numbers are text, all different."""
    values = {f"s{at}": f"{second}.{at:03}" for at in range(99)}
    return json.dumps({"asset": "m", "ts": START_MS + 1000 * second, "values": values}).encode()


def untimed(second: int) -> bytes:
    """Readings whose times columns take and no rule for times does, each another."""
    return json.dumps([{"t": at, "ts": f"second {second}.{at}"} for at in range(20)]).encode()


@pytest.mark.parametrize(
    ("kind", "value"),
    [("flat", mixed), ("flat", texts), ("flat", untimed), ("edgex", mixed), ("narrow", mixed)],
)
def test_a_batch_that_takes_long_is_left_off_as_if_it_had_never_come(tmp_path: Path, kind: str, value):
    """Asked to end amid it, a worker does not read on to the batch's end, which can take half a minute; nothing of the batch counts, and who comes next reads all of it."""
    seconds = range(8_000)
    values: list[bytes | None] = [value(second % 3600) for second in seconds]
    offsets = np.array(seconds, dtype=np.int64)
    whole = RecordBatch("plant", *PLACE, offsets, offsets * 0 - 1, [b"k"] * len(values), values, len(values))
    bench = Bench(tmp_path, decode=DecodeRules(format=kind))
    lane, heeds = bench.worker.lanes[PLACE], list[float]()
    decoder = lane.decoder

    def decoded(batch: RecordBatch, until: float) -> Decoded:
        """Read while so many heeds are told that nothing asks; `heeds` then has the thread's own seconds at the begin, at each and at the end."""

        def asked() -> bool:
            heeds.append(time.thread_time())
            return len(heeds) > until

        heeds.clear()
        _ASKED.set(asked)
        began = time.thread_time()
        found = decoder.decode(batch)
        heeds[:] = [began, *heeds, time.thread_time()]
        return found

    # Without the collector, which may look through what all tests before have left between any two of them.
    gc.collect()
    gc.disable()
    try:
        contextvars.copy_context().run(decoded, whole, math.inf)
    finally:
        gc.enable()
    assert max(np.diff(heeds)) < 0.4 * (heeds[-1] - heeds[0])
    half = len(heeds) // 2
    lane.decoder = SimpleNamespace(decode=lambda batch: decoded(batch, half))
    bench.worker.feed(PLACE, whole, 1)
    assert bench.worker.drain(HANGS)
    bench.worker.end()
    assert len(heeds) == half + 1
    assert (bench.counts.messages, bench.counts.read, bench.position(), bench.files()) == (0, 0, 0, [])
    assert bench.worker.snapshot().letters == []


def test_what_is_left_off_is_no_failure_of_the_decoder(tmp_path: Path):
    """A decoder of one's own may take any exception for a bad message, and would make letters of good ones."""

    class Careless:
        def decode(self, batch: RecordBatch) -> Decoded:
            began.set()
            rejects = []
            for index in range(10**6):
                try:
                    heed()
                    time.sleep(0.001)
                except Exception as error:
                    rejects.append(Reject(index, "decoder_failed", str(error)))
            return Decoded(empty_readings(), rejects, Counter())

    began = threading.Event()
    bench = Bench(tmp_path)
    bench.worker.lanes[PLACE].decoder = Careless()
    bench.take(range(100))
    assert began.wait(HANGS)
    bench.worker.end()
    assert bench.counts.messages == 0 and bench.worker.snapshot().letters == []
    heed()  # Outside a task nothing asks anybody to end.


def test_windows_that_could_not_be_written_are_never_committed_past(tmp_path: Path):
    bench = Bench(tmp_path)
    bench.take(range(30))
    assert bench.worker.drain(HANGS)
    folder = bench.worker.lanes[PLACE].store.folder
    folder.rename(folder.with_name("away"))
    folder.write_text("no folder")
    bench.take(range(30, 100))
    with pytest.raises(StorageError):
        bench.worker.drain(HANGS)
    assert bench.position() is None
    with pytest.raises(StorageError):
        bench.worker.check()


def test_an_offset_is_counted_once_however_often_it_is_read(tmp_path: Path):
    bench = Bench(tmp_path)
    bench.take(range(100))
    assert bench.worker.drain(HANGS)
    mark = bench.worker.snapshot().marks[PLACE]
    assert mark.offset == 60
    bench.take(range(100, 110))  # read, and lost with the partition before anything of it was committed
    assert bench.worker.drain(HANGS)
    bench.worker.drop(PLACE)
    bench.open(Committed(mark.offset, mark.metadata))
    bench.take(range(60, 150))
    assert bench.worker.drain(HANGS)
    bench.worker.end()
    assert (bench.counts.messages, bench.counts.messages_again) == (150, 50)
    # The next process knows from the commit how far the group had come.
    mark = bench.worker.snapshot().marks[PLACE]
    again = Bench(tmp_path)
    again.open(Committed(mark.offset, mark.metadata))
    again.take(range(120, 200))
    assert again.worker.drain(HANGS)
    again.worker.end()
    assert (again.counts.messages, again.counts.messages_again) == (50, 30)


@pytest.mark.parametrize("each", [1, 5])
@pytest.mark.parametrize("name", ['{"format_version":', '{"format_version":1}', "PAR1", "fedplant"])
def test_a_name_that_looks_like_a_footer_makes_no_file_look_damaged(tmp_path: Path, name: str, each: int):
    bench = Bench(tmp_path)
    sent = [reading(s, name, values={name: i}, seq=i) for s in range(200) for i in range(each)]
    offsets = np.arange(len(sent), dtype=np.int64)
    keys = [b"k"] * len(sent)
    bench.worker.feed(PLACE, RecordBatch("plant", *PLACE, offsets, offsets * 0 - 1, keys, sent, len(sent)), 1)
    assert bench.worker.drain(HANGS)
    bench.worker.end()
    found = resume(bench.settings, IDENTITY, None, Bounds(0, len(sent))).store
    assert (len(found.footers), found.damaged) == (3, 0)
    assert [f.row_count for f in found.footers] == [60 * each] * 3
