"""Where reading goes on after a start: every way in which files, group and log can disagree is named, with what to do."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ingestion.errors import ContinuityError, StorageError
from ingestion.records import Imprint
from ingestion.resume import Bounds, Committed, metadata, resume
from ingestion.settings import EventTimeRules
from ingestion.store import Identity
from tests.ingestion.harness import settings_for
from tests.ingestion.test_worker import IDENTITY, Bench, batch
from tests.waiting import HANGS

LOG = Bounds(0, 1000)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Offsets 0 to 199, a reading a second: three windows on disk, the fourth open."""
    bench = Bench(tmp_path)
    bench.take(range(200))
    assert bench.worker.drain(HANGS)
    return bench


def committed(bench: Bench) -> Committed:
    mark = bench.worker.snapshot().marks["iiot.plant.telemetry.v1", 0]
    bench.worker.end()
    return Committed(mark.offset, mark.metadata)


def test_reading_goes_on_at_the_first_open_window_with_the_watermark_of_then(bench: Bench):
    start = resume(bench.settings, IDENTITY, committed(bench), LOG)
    assert (start.windows.position, start.told.upto) == (180, 200)
    assert start.windows.max_event > 0 and len(start.windows.handled) == 3


@pytest.mark.parametrize(
    "note", ["", "not ours", "[]", '{"t":"topic-id"}', '{"t":"topic-id","e":"x","s":"y"}']
)
def test_a_commit_without_our_note_is_none_and_the_files_decide(bench: Bench, note: str):
    bench.worker.end()
    start = resume(bench.settings, IDENTITY, Committed(150, note), LOG)
    assert (start.windows.position, start.told.upto) == (0, 0) and len(start.windows.handled) == 3
    with pytest.raises(ContinuityError, match=r"no committed offset and retention.*--accept-gap"):
        resume(bench.settings, IDENTITY, Committed(150, note), Bounds(100, 1000))


@pytest.mark.parametrize("end", [10, 179, 199])
def test_a_position_beyond_the_end_of_the_log_stops_with_both_named(bench: Bench, end: int):
    known = committed(bench)
    with pytest.raises(ContinuityError, match=f"position 200 is beyond the log's end {end}"):
        resume(bench.settings, IDENTITY, known, Bounds(0, end))
    # No consent reads a cut log as if it were whole.
    with pytest.raises(ContinuityError, match="log was cut"):
        resume(replace(bench.settings, accept_gap=True, new_topic=True), IDENTITY, known, Bounds(0, end))


def test_files_alone_show_that_the_log_was_cut(bench: Bench):
    bench.worker.end()
    with pytest.raises(ContinuityError, match="position 186 is beyond the log's end 100"):
        resume(bench.settings, IDENTITY, None, Bounds(0, 100))


def test_the_record_read_last_is_known_by_the_group_and_by_newer_files(bench: Bench):
    known, sent = committed(bench), batch(range(200))
    assert resume(bench.settings, IDENTITY, known, LOG).last_read == sent.imprint(200)
    assert resume(bench.settings, IDENTITY, None, LOG).last_read == sent.imprint(186)
    # What retention took cannot be compared.
    gone = resume(replace(bench.settings, accept_gap=True), IDENTITY, known, Bounds(200, 1000))
    assert (gone.last_read, gone.reached) == (None, 200)
    note = {**json.loads(known.metadata), "s": 100, "r": list(sent.imprint(100))}
    files_newer = resume(bench.settings, IDENTITY, Committed(60, json.dumps(note)), LOG)
    assert files_newer.last_read == sent.imprint(186)


@pytest.mark.parametrize("said", [None, [], [1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, True], "1234", 5])
def test_a_note_that_names_no_record_compares_none(bench: Bench, said: object):
    note = {**json.loads(committed(bench).metadata), "r": said}
    assert resume(bench.settings, IDENTITY, Committed(180, json.dumps(note)), LOG).last_read is None


@pytest.mark.parametrize(
    ("seen", "same"),
    [
        (Imprint(7, 3, 50, 9), True),
        (Imprint(7, -1, 50, 9), True),
        (Imprint(7, 4, 50, 9), False),
        (Imprint(7, 3, 51, 9), False),
        (Imprint(7, 3, 50, 8), False),
    ],
)
def test_a_record_is_known_by_leader_time_and_content(seen: Imprint, same: bool):
    assert Imprint(7, 3, 50, 9).same(seen) is same


def test_an_accepted_gap_counts_as_handled_and_is_compared_no_more(bench: Bench):
    start = resume(bench.settings, IDENTITY, committed(bench), LOG).past_the_gap()
    assert (start.windows.position, start.told.upto, start.last_read) == (180, 200, None)
    note = metadata("topic-id", 1, start.told.upto, None)
    assert resume(bench.settings, IDENTITY, Committed(180, note), LOG).last_read is None


def test_readings_that_retention_took_are_named_until_the_gap_is_accepted(bench: Bench):
    known = committed(bench)
    with pytest.raises(ContinuityError, match=r"offsets 180 to 249 were removed.*--accept-gap"):
        resume(bench.settings, IDENTITY, known, Bounds(250, 1000))
    start = resume(replace(bench.settings, accept_gap=True), IDENTITY, known, Bounds(250, 1000))
    assert start.windows.position == 250


def test_a_damaged_window_is_read_again_or_named_if_retention_took_what_it_held(bench: Bench):
    known = committed(bench)
    bench.files()[1].write_bytes(b"PAR1 and nothing")
    with pytest.raises(ContinuityError, match=r"a window file is damaged and retention.*--accept-gap"):
        resume(bench.settings, IDENTITY, known, Bounds(30, 1000))
    assert len(bench.files()) == 2 and len(list(bench.folder.rglob("damaged/*"))) == 1


def test_a_damaged_window_costs_only_reading_again(bench: Bench):
    known = committed(bench)
    bench.files()[1].write_bytes(b"")
    start = resume(bench.settings, IDENTITY, known, LOG)
    assert (start.windows.position, start.store.damaged, len(start.windows.handled)) == (0, 1, 2)


def test_another_topic_of_the_name_needs_consent_once(bench: Bench):
    known, other = committed(bench), replace(IDENTITY, topic_id="another")
    with pytest.raises(ContinuityError, match=r"created again \(id another, on disk topic-id\).*--new-topic"):
        resume(bench.settings, other, known, LOG)
    start = resume(replace(bench.settings, new_topic=True), other, known, LOG)
    assert (start.windows.position, start.told.upto, start.windows.handled) == (0, 0, {})
    assert start.store.folder.parent.name == f"{IDENTITY.topic}~another"
    assert resume(bench.settings, other, None, LOG).windows.position == 0
    assert len(bench.files()) == 3


def test_a_commit_of_another_topic_is_enough_to_ask(tmp_path: Path):
    settings = settings_for(SimpleNamespace(bootstrap="none"), "plant", tmp_path)
    with pytest.raises(ContinuityError, match="--new-topic"):
        resume(settings, IDENTITY, Committed(5, metadata("older", 1, 5, None)), LOG)


def test_another_window_length_is_refused_by_both_numbers(bench: Bench):
    bench.worker.end()
    rules = EventTimeRules(window=30)
    with pytest.raises(StorageError, match="holds windows of 60 s, the configuration says 30 s"):
        resume(replace(bench.settings, event_time=rules), IDENTITY, None, LOG)


def test_partitions_of_one_folder_never_mix(bench: Bench):
    bench.worker.end()
    other = Identity(IDENTITY.site, IDENTITY.cluster_id, IDENTITY.topic, IDENTITY.topic_id, 1)
    assert resume(bench.settings, other, None, LOG).windows.handled == {}
