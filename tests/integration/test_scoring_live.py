"""Live scoring on a real broker: the exported model's own scores, whatever the plant sends."""

import json
import threading

import numpy as np
import pyarrow.parquet as pq
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from ingestion.settings import Limits
from pipeline.scoring.scorer import score
from pipeline.scoring.settings import ScoringFailed
from tests.ingestion.harness import delete_before
from tests.integration.scoring import (
    SENSORS,
    START,
    STEP_S,
    STEPS,
    recording,
    send,
    sent_alerts,
    settings_for,
)
from tests.waiting import HANGS, wait_for


def test_live_scores_are_the_exported_models_own(broker, detector, topic, make_topic, tmp_path):
    import tensorflow as tf

    site, source = topic("site"), make_topic(2)
    recordings = {"pump-1": recording(700), "pump-2": recording(650, seed=2)}
    send(broker, source, recordings)
    report = score(
        settings_for(broker, detector, site, source, topic("group"), scores_dir=tmp_path), until="end"
    )
    counts = report.sites[site]
    assert (counts.messages, counts.readings, counts.machines) == (1350, 1350, 2)
    table = pq.read_table(tmp_path / "scores" / f"{site}.parquet").to_pandas()
    loaded = tf.saved_model.load(str(detector))
    begin, stream = loaded.signatures["start"], loaded.signatures["stream"]
    for asset, values in recordings.items():
        rows = table[table["asset"] == asset]
        # The last step waits for a reading that shows nothing is missing.
        assert len(rows) == len(values) - 1
        steps = tf.constant(values[None, :-1], tf.float32)
        truth = stream(site=tf.constant([site]), values=steps, **begin(site=tf.constant([site])))["score"][0]
        assert rows["score"].iloc[: STEPS - 1].isna().all()
        np.testing.assert_allclose(rows["score"], truth, rtol=1e-5, atol=1e-5)
        assert rows["event_time"].iloc[0].timestamp() == START
    alerts = sent_alerts(broker, site)
    assert [a["state"] for k, a in alerts if k == "pump-1"] == ["open", "closed"] * 3
    first = next(a for k, a in alerts if k == "pump-1")
    assert first["event_time"] == "2026-03-01T03:20:00.000Z"
    assert first["top_sensors"][0]["sensor"] == "vibration"
    assert first["top_sensors"][0]["value"] == pytest.approx(recordings["pump-1"][200, 1], abs=1e-5)
    assert (first["model_version"], first["known_site"], first["threshold"]) == (7, False, 3.0)


def test_a_scorer_that_has_never_run_begins_where_learning_stopped(broker, detector, topic, make_topic):
    site, source, learner = topic("site"), make_topic(1), topic("learner")
    values = recording(700)
    send(broker, source, {"a": values})
    tp = TopicPartition(source, 0)
    ingesting = KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=learner, enable_auto_commit=False)
    ingesting.assign([tp])
    ingesting.commit({tp: OffsetAndMetadata(450, "", -1)})
    ingesting.close()
    report = score(
        settings_for(broker, detector, site, source, topic("group"), start_group=learner), until="end"
    )
    counts = report.sites[site]
    # The frames of the first new steps are filled from what was read before; nothing before alerts.
    assert (counts.messages, counts.scored) == (250, 250)
    assert {a["started"] for _, a in sent_alerts(broker, site)} == {"2026-03-01T08:20:00.000Z"}


def test_what_retention_took_before_it_was_scored_is_told_once(broker, detector, topic, make_topic):
    site, source = topic("site"), make_topic(1)
    values = recording(400)
    settings = settings_for(broker, detector, site, source, topic("group"))
    send(broker, source, {"a": values[:200]})
    assert score(settings, until="end").sites[site].removed == 0
    send(broker, source, {"a": values[200:]}, first=200)
    delete_before(broker, source, 350)
    late = score(settings, until="end").sites[site]
    assert (late.messages, late.removed) == (50, 150)
    assert late.note is not None and f"150 messages were removed from {source} before they" in late.note
    delete_before(broker, source, 400)
    after = score(settings, until="end").sites[site]
    assert (after.messages, after.removed) == (0, 0)


def test_what_retention_took_is_told_once_where_nothing_else_came(broker, detector, topic, make_topic):
    site, source = topic("site"), make_topic(1)
    settings = settings_for(broker, detector, site, source, topic("group"))
    send(broker, source, {"a": recording(100)})
    score(settings, until="end")
    send(broker, source, {"a": recording(30)}, first=100)
    delete_before(broker, source, 130)
    assert [score(settings, until="end").sites[site].removed for _ in range(2)] == [30, 0]


def test_an_endless_scorer_shows_its_scores_while_it_runs(
    broker, detector, topic, make_topic, tmp_path, monkeypatch
):
    monkeypatch.setattr("pipeline.scoring.scorer._PUBLISH_SECONDS", 0.1)
    site, source, stop = topic("site"), make_topic(1), threading.Event()
    settings = settings_for(broker, detector, site, source, topic("group"), scores_dir=tmp_path)
    path = tmp_path / "scores" / f"{site}.parquet"
    values = recording(120)
    scorer = threading.Thread(target=lambda: score(settings, stop=stop))
    scorer.start()
    try:
        for first in (0, 60):
            send(broker, source, {"press": values[first : first + 60]}, first=first)
            wait_for(lambda rows=first + 59: path.exists() and pq.read_metadata(path).num_rows == rows)
    finally:
        stop.set()
        scorer.join(HANGS)
    assert not scorer.is_alive() and pq.read_metadata(path).num_rows == 119
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_bad_late_doubled_and_future_readings_are_counted_and_the_rest_is_scored(
    broker, detector, topic, make_topic
):
    site, source = topic("site"), make_topic(1)
    values = recording(100, incidents=())
    send(broker, source, {"a": values})
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    at = (START + 99 * STEP_S) * 1000

    def extra(ts, row=values[99]):
        body = {"ts": ts, "asset": "a", "values": dict(zip(SENSORS, row.tolist(), strict=True))}
        producer.send(source, json.dumps(body).encode(), key=b"a", timestamp_ms=at)

    producer.send(source, b"not json", key=b"a", timestamp_ms=at)
    extra(at)
    extra(at - 50 * STEP_S * 1000)
    extra(at + 86_400_000)
    producer.flush()
    producer.close()
    counts = score(settings_for(broker, detector, site, source, topic("group")), until="end").sites[site]
    assert (counts.messages, counts.late, counts.duplicate) == (104, 1, 1)
    assert counts.rejected["future_timestamp"] == 1
    assert sum(counts.rejected.values()) == 2
    assert counts.scored == 100 - 1 - (STEPS - 1)


def test_an_absent_topic_and_an_empty_one_are_no_failure(broker, detector, topic, make_topic):
    absent = score(settings_for(broker, detector, "s", topic("absent"), topic("group")), until="end").sites[
        "s"
    ]
    assert absent.note is not None
    assert absent.note.startswith("there is no topic")
    empty = score(settings_for(broker, detector, "s", make_topic(1), topic("group")), until="end").sites["s"]
    unknown = "the detector does not know it: scored as a machine of the fleet"
    assert (empty.messages, empty.note) == (0, unknown)


def test_a_folder_that_is_no_detector_is_named(broker, tmp_path):
    with pytest.raises(ScoringFailed, match=str(tmp_path)):
        score(settings_for(broker, tmp_path, "s", "t", "g"), until="end")


def test_a_backlog_is_scored_in_large_batches(broker, detector, topic, make_topic):
    site, source = topic("site"), make_topic(1)
    send(broker, source, {"a": recording(5000, incidents=())})
    read = list[int]()
    settings = settings_for(broker, detector, site, source, topic("group"), limits=Limits())
    report = score(settings, until="end", progress=lambda done, _total: read.append(done))
    assert report.scored == 5000 - STEPS
    # Every batch is a call of the model, which costs more than what is in it.
    assert len(set(read)) < 50, read
