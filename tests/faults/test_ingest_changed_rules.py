"""Rules that change between two runs: what open windows hold is read again and judged anew, and still has one place."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from ingestion.audit import audit
from ingestion.consumer import ingest
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
