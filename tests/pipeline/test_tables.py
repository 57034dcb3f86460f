"""What people read fits a screen of 80 columns without a figure being cut."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from ingestion.audit import AuditReport, PartitionAudit
from ingestion.compaction import CompactionReport, FolderCompaction
from pipeline.artefacts import IngestionCounts, RunSummary
from pipeline.cli.tables import audit_table, compaction_table, counts_table, preview_table, summary_text
from pipeline.jobs.plan import Plan
from pipeline.jobs.preview import Preview

LONG = "a-plant-whose-name-was-given-by-a-committee-of-seven"
COUNTS = IngestionCounts(
    read=1_234_567,
    kept=1_234_000,
    late=511,
    duplicate=34,
    dead_lettered=22,
    reasons={"not_json": 20, "too_deep": 2},
    windows=8_760,
)


def drawn(what, width):
    out = io.StringIO()
    Console(file=out, width=width).print(what)
    return out.getvalue()


def test_what_was_read_again_after_a_kill_is_told_so_that_the_figures_add_up():
    counts = IngestionCounts(read=100, kept=10, left_open=3, already_handled=87)
    lines = drawn(counts_table({"east": counts, "west": IngestionCounts(read=1, kept=1)}), 80).splitlines()
    assert [line.strip() for line in lines[-2:]] == ["read again, on disk before:", "east: 87"]


def test_late_is_one_thing_in_an_ingestion_and_the_late_topic_another_in_an_audit():
    part = PartitionAudit("east", "t", 0, 0, 9, 9, 6, 0, 3, 0, 0, 0, 0, 0, [], [])
    report = AuditReport([part])
    told = report.to_dict()["partitions"][0]
    assert told["late_topic"] == 3 and "late" not in told
    first, second, row, *_ = drawn(audit_table(report), 80).splitlines()
    at = second.index("topic")
    assert first[at : at + 5].strip() == "late" and row[at : at + 5].strip() == "3"


def test_an_audit_of_no_offset_proves_nothing():
    lines = drawn(audit_table(AuditReport([], ["east"])), 80).splitlines()
    assert [line.strip() for line in lines[-2:]] == [
        "no topic for site east yet",
        "There was no offset to look for.",
    ]


def test_nothing_to_unite_is_a_line_and_no_empty_table():
    assert compaction_table(CompactionReport()) == "no window files yet"
    idle = FolderCompaction("east/t/p0", files_before=7, files_after=7)
    assert (
        compaction_table(CompactionReport([idle])) == "nothing to unite in 7 files: no old period has so many"
    )


def test_one_site_is_not_many():
    planned = Plan("kafka:9092", {"east": 5}, "r", False, ("federated",), 3)
    assert planned.text().startswith("would read the topic of 1 site at kafka:9092")
    assert (
        replace(planned, readings={"east": 5, "west": 6})
        .text()
        .startswith("would read the topics of 2 sites")
    )


@pytest.mark.parametrize("width", [80, 160])
def test_figures_are_whole_and_names_fold(width):
    text = drawn(counts_table({LONG: COUNTS}), width)
    assert all(figure in text for figure in ("1,234,567", "1,234,000", "511", "34", "22", "8,760"))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert LONG in "".join(
        line.split()[0] for line in text.splitlines() if line[:1].strip() and line[:5] != "site "
    )


def test_a_run_ends_with_what_became_of_every_sites_messages():
    summary = RunSummary(
        run_id="r",
        status="trained",
        skipped_sites={"west": "no data"},
        ingestion={"east": COUNTS, "west": IngestionCounts(read=9, kept=4, left_open=5, windows=4)},
    )
    lines = drawn(summary_text(summary), 120).splitlines()
    assert any(
        line.split()
        == [
            "east",
            "1,234,567",
            "1,234,000",
            "0",
            "511",
            "34",
            "22",
            "8,760",
            "not_json",
            "20,",
            "too_deep",
            "2",
        ]
        for line in lines
    )
    assert any(line.split() == ["west", "9", "4", "5", "0", "0", "0", "4", "-"] for line in lines)
    assert "  rounds     none: no network is trained" in [line.rstrip() for line in lines]
    assert "  left out   west: no data" in [line.rstrip() for line in lines]


def test_what_was_left_out_inside_kept_messages_is_told_beside_what_the_mapping_dropped():
    east = IngestionCounts(
        read=9,
        kept=9,
        repaired={"not_a_number": 59_048, "ignored_field": 3},
        sensors={"t": {"below_range": 2}},
    )
    lines = drawn(counts_table({"east": east, "west": IngestionCounts(read=1, kept=1)}), 80).splitlines()
    assert [line.strip() for line in lines[-4:]] == [
        "inside kept messages:",
        "east: ignored_field 3, not_a_number 59,048",
        "values dropped by the sensor mapping:",
        "east: t: below_range 2",
    ]


def test_windows_that_hold_hardly_a_reading_are_told_with_what_to_do():
    slow = IngestionCounts(read=2400, kept=2400, windows=2000)
    told = " ".join(
        drawn(
            counts_table({"north": slow, "south": slow, "west": IngestionCounts(kept=9, windows=9)}), 80
        ).split()
    )
    assert (
        "north, south: a window holds 1.2 readings" in told
        and "`fedplant compact`" in told
        and "west:" not in told
    )


def test_a_preview_of_many_sensors_names_some_and_says_how_many_there_are():
    found = Preview("2026-03-01T00:00:00Z", 60.0, tuple(f"T{n:03d}" for n in range(400)), {}, ("pca",), 20)
    text = " ".join(drawn(preview_table(found), 160).split())
    assert "400 sensors every 60 s: T000, T001" in text and "T039 and 360 more" in text and "T040" not in text
