"""Names of every kind: of consumer groups, and in what dead letters say."""

from dataclasses import replace
from pathlib import Path

import pytest

from ingestion.consumer import ingest
from ingestion.errors import InputDataError
from ingestion.settings import DecodeRules, IngestSettings, Site
from ingestion.store import read_site
from tests.ingestion.harness import letters, on_disk, produce, reading, settings_for


@pytest.mark.parametrize(
    "group",
    ["plants/line-1", "../../out", "..", "g" * 300, "%2e / 100 % 'a'", " x\\y:z* "],
    ids=["path", "outward", "dots", "long", "quoted", "windows"],
)
def test_a_group_of_any_printable_name_commits_with_its_letters_and_writes_into_its_folder_only(
    broker, make_topic, topic, tmp_path: Path, group: str
):
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1")
    data = tmp_path / "deep" / "data"
    settings = replace(
        settings_for(broker, site, data), group_id=f"{group}-{site}" if "." not in group else group
    )
    produce(broker, name, [*(reading(s) for s in range(100)), b"poison"])
    counts = ingest(settings, until="end").sites[site]
    assert (counts.kept, dict(counts.dead), counts.left_open) == (60, {"not_json": 1}, 40)
    produce(broker, name, [reading(s) for s in range(100, 200)])
    again = ingest(settings, until="end").sites[site]
    assert (again.messages, again.messages_again, again.kept, sum(again.dead.values())) == (100, 41, 120, 0)
    assert [record.value for record in letters(broker, f"iiot.{site}.dlq")] == [b"poison"]
    assert sum(on_disk(data).values()) == 180
    (lock,) = (data / "locks").iterdir()
    assert lock.is_file() and len(lock.name.encode()) < 255
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and data not in path.parents]
    assert outside == []


@pytest.mark.parametrize("group", ["", "Werk Süd", "線", "line\n1", "a\0b", "g" * 1001])
def test_a_group_whose_letters_could_not_be_sent_is_refused_with_what_is_allowed(group: str):
    with pytest.raises(InputDataError, match=r"1-1000 printable ASCII characters; rename it$") as caught:
        IngestSettings((Site("s"),), "-", Path(), group_id=group)
    assert repr(group[:80]) in str(caught.value) and "\n" not in str(caught.value)


def test_assets_and_sensors_of_every_alphabet_come_back_as_sent(broker, make_topic, topic, tmp_path: Path):
    site = topic("site")
    assets = ["Pumpe Süd", "ポンプ/1", "насос №2", "مضخة", "🏭", "e\u0301", "\u00e9", "../../out"]
    sensors = {"Öltemperatur °C": 1.5, "圧力": 2.0, "давление": -3.0, "../flow": 4.0}
    sent = [reading(s, asset, values=sensors) for s, asset in enumerate(assets)]
    produce(broker, make_topic(1, f"iiot.{site}.telemetry.v1"), sent)
    counts = ingest(settings_for(broker, site, tmp_path, close_open=True), until="end").sites[site]
    assert (counts.kept, sum(counts.dead.values())) == (len(assets), 0)
    (table,) = read_site(tmp_path, site)
    assert table.column("asset").to_pylist() == assets
    assert {name: set(table.column(name).to_pylist()) for name in table.column_names[5:]} == {
        name: {value} for name, value in sensors.items()
    }


def half_a_character(value: bytes, _key: bytes | None, _topic: str) -> object:
    """A user's decoder that fails with what no UTF-8 can hold."""
    if value == b"odd":
        raise ValueError("Pumpe \ud83d in Süd")
    return {"t": 1}


def test_a_letter_says_what_no_utf8_can_hold_in_escapes(broker, make_topic, topic, tmp_path: Path):
    site = topic("site")
    produce(broker, make_topic(1, f"iiot.{site}.telemetry.v1"), [b"even", b"odd", b"even"])
    rules = DecodeRules(format=f"{__name__}:{half_a_character.__name__}")
    settings = settings_for(broker, site, tmp_path, decode=rules, close_open=True)
    counts = ingest(settings, until="end").sites[site]
    assert (counts.kept + counts.duplicate, dict(counts.dead)) == (2, {"decoder_failed": 1})
    (letter,) = letters(broker, f"iiot.{site}.dlq")
    assert letter.value == b"odd"
    assert dict(letter.headers)["message"] == "ValueError: Pumpe \\ud83d in Süd".encode()
