"""Rules or folders that change between two runs: what open windows hold is read again and judged anew, and still has one place."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ingestion.audit import audit
from ingestion.consumer import ingest
from ingestion.errors import ContinuityError
from ingestion.settings import DecodeRules
from tests.ingestion.harness import letters, on_disk, origin, produce, reading, settings_for

STRICT = DecodeRules(sensors=("temperature",), unknown_sensors="reject")


def message(second: int) -> bytes:
    """Every tenth names a sensor that strict rules do not know."""
    values = {"temperature": 1.0, **({"other": 2.0} if second % 10 == 5 else {})}
    return reading(second, values=values)


def dead(broker, site: str) -> Counter[tuple[int, int]]:
    return Counter(origin(letter) for letter in letters(broker, f"iiot.{site}.dlq"))


def test_a_message_that_new_rules_refuse_becomes_a_letter_though_it_was_read_before(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path)
    produce(broker, name, [message(s) for s in range(200)])
    ingest(settings, until="end")
    strict = replace(settings, decode=STRICT, close_open=True)
    assert ingest(strict, until="end").sites[site].balanced
    assert dead(broker, site) == Counter({(0, 185): 1, (0, 195): 1})
    assert on_disk(tmp_path) == Counter((0, o) for o in range(200) if o not in (185, 195))
    assert audit(strict).clean


def test_a_letter_that_was_sent_stays_the_only_place_though_new_rules_would_keep_the_message(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path)
    produce(broker, name, [message(s) for s in range(200)])
    ingest(replace(settings, decode=STRICT), until="end")
    sent = Counter((0, o) for o in range(5, 200, 10))
    assert dead(broker, site) == sent
    counts = ingest(replace(settings, close_open=True), until="end").sites[site]
    assert (counts.balanced, counts.already_handled) == (True, 2)
    assert dead(broker, site) == sent
    assert on_disk(tmp_path) == Counter((0, o) for o in range(200) if o % 10 != 5)
    assert audit(settings).clean


def test_a_reading_that_shorter_lateness_refuses_goes_to_the_late_topic(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path)
    produce(
        broker,
        name,
        [reading(s) for s in range(200)] + [reading(100)] + [reading(s) for s in range(200, 210)],
    )
    ingest(settings, until="end")
    rules = replace(settings.event_time, allowed_lateness=0.0)
    short = replace(settings, event_time=rules, close_open=True)
    assert ingest(short, until="end").sites[site].balanced
    late = Counter(origin(letter) for letter in letters(broker, f"iiot.{site}.late"))
    assert late == Counter({(0, 200): 1})
    assert on_disk(tmp_path) == Counter((0, o) for o in range(211) if o != 200)
    assert audit(short).clean


def test_an_emptied_data_folder_is_named_and_another_group_reads_all_again(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    settings = settings_for(broker, site, tmp_path / "data", close_open=True)
    produce(broker, name, [*(message(s) for s in range(200)), b"poison"])
    assert ingest(replace(settings, decode=STRICT), until="end").sites[site].balanced
    assert audit(settings).clean
    shutil.rmtree(tmp_path / "data")
    refusal = rf"group '{settings.group_id}' has read up to offset 201 into another data folder.* new name .*--accept-gap"
    with pytest.raises(ContinuityError, match=refusal):
        ingest(settings, until="end")
    produce(broker, name, [message(s) for s in range(200, 220)])
    # The operator's two answers: go on from there, or read all of it again.
    ingest(replace(settings, accept_gap=True), until="end")
    assert on_disk(tmp_path / "data") == Counter((0, o) for o in range(201, 221))
    other = replace(settings, group_id=f"{settings.group_id}-2", data_dir=tmp_path / "again")
    counts = ingest(other, until="end").sites[site]
    assert (counts.balanced, sum(counts.dead.values())) == (True, 1)
    assert on_disk(tmp_path / "again") == Counter((0, o) for o in range(221) if o != 200)
    # Letters of the first group, by other rules, are not the second one's.
    assert audit(other).clean and len(dead(broker, site)) == 21


def test_two_projects_with_one_group_do_not_skip_what_the_other_has_read(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    one = settings_for(broker, site, tmp_path / "one")
    produce(broker, name, [message(s) for s in range(100)])
    ingest(one, until="end")
    with pytest.raises(ContinuityError, match="into another data folder"):
        ingest(replace(one, data_dir=tmp_path / "two"), until="end")
    (tmp_path / "one").rename(tmp_path / "moved")
    assert (
        ingest(replace(one, data_dir=tmp_path / "moved", close_open=True), until="end").sites[site].balanced
    )
    assert on_disk(tmp_path / "moved") == Counter((0, o) for o in range(100))
