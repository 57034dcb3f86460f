"""Live scoring on a real broker: the exported model's own scores, each alert exactly once, whatever interrupts it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from ingestion.settings import EventTimeRules, Limits, Site
from pipeline.scoring import topics
from pipeline.scoring.scorer import score
from pipeline.scoring.settings import ScorerReplaced, ScoreSettings, ScoringFailed, alert_topic

STEPS, SENSORS, STEP_S = 16, ("temperature", "vibration", "flow"), 60
START = 1_772_323_200


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A SavedModel with the documented signatures: distance of a step from the mean of the frame that ends there, and a part
    that remembers everything ever seen, so that forgetting anything shows in the scores."""
    import tensorflow as tf

    width = len(SENSORS)
    shapes = {
        "recent": (STEPS - 1, width),
        "seen": (),
        "baseline": (1, width),
        "level": (1, width),
        "average": (1, width),
    }
    kinds = {name: tf.int32 if name == "seen" else tf.float32 for name in shapes}
    site_spec = tf.TensorSpec([None], tf.string, "site")

    class Module(tf.Module):
        @tf.function(input_signature=[site_spec])
        def start(self, site):
            return {
                name: tf.zeros((tf.shape(site)[0], *shape), kinds[name]) for name, shape in shapes.items()
            }

        @tf.function(
            input_signature=[
                site_spec,
                tf.TensorSpec([None, None, width], tf.float32, "values"),
                *(tf.TensorSpec([None, *shape], kinds[name], name) for name, shape in shapes.items()),
            ]
        )
        def stream(self, site, values, recent, seen, baseline, level, average):
            known = tf.where(tf.math.is_finite(values), values, tf.zeros_like(values))
            joined = tf.concat([recent, known], axis=1)
            frames = tf.signal.frame(joined, STEPS, 1, axis=1)
            slow = tf.scan(
                lambda held, row: held + 0.001 * (tf.abs(row) - held),
                tf.transpose(known, (1, 0, 2)),
                baseline[:, 0],
            )
            part = tf.abs(frames[:, :, -1] - tf.reduce_mean(frames, axis=2)) + 0.1 * tf.transpose(
                slow, (1, 0, 2)
            )
            before = seen[:, None] + tf.range(tf.shape(values)[1])[None]
            ready = before >= STEPS - 1
            return {
                "score": tf.where(ready, tf.reduce_sum(part, axis=2), float("nan")),
                "threshold": tf.fill(tf.shape(values)[:2], 3.0),
                "contribution": tf.where(ready[:, :, None], part, 0.0),
                "recent": joined[:, -(STEPS - 1) :],
                "seen": tf.minimum(seen + tf.shape(values)[1], STEPS - 1),
                "baseline": slow[-1][:, None],
                "level": level,
                "average": average,
            }

    folder = tmp_path_factory.mktemp("detectors") / "fleet" / "7"
    module = Module()
    tf.saved_model.save(module, str(folder), signatures={"stream": module.stream, "start": module.start})
    described = {
        "name": "fleet",
        "version": 7,
        "sensors": SENSORS,
        "step_ns": STEP_S * 10**9,
        "steps": STEPS,
        "sites": ["known"],
        "max_gap_ns": 300 * 10**9,
        "state": {name: [None, *shape] for name, shape in shapes.items()},
        "slow_state": ["baseline", "level"],
        "sensor_history": [],
    }
    (folder / "assets.extra").mkdir(exist_ok=True)
    (folder / "assets.extra" / "detector.json").write_text(json.dumps(described))
    return folder


def recording(count, seed=1, incidents=((200, 240), (400, 402), (500, 560))):
    """float[count, 3] of quiet readings with loud stretches."""
    values = np.random.default_rng(seed).normal(0, 0.2, (count, len(SENSORS)))
    for a, b in incidents:
        values[a:b, 1] += np.where(np.arange(a, min(b, count)) % 2, 6.0, -6.0)[: max(0, min(b, count) - a)]
    return np.round(values, 4)


def send(broker, topic, recordings, first=0):
    """Produce {asset: values} step by step as a plant would, keyed by asset, stamped with the event time."""
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=20)
    for i in range(max(len(v) for v in recordings.values())):
        for asset, values in recordings.items():
            if i < len(values):
                at = (START + (first + i) * STEP_S) * 1000
                body = {
                    "ts": at,
                    "asset": asset,
                    "values": dict(zip(SENSORS, values[i].tolist(), strict=True)),
                }
                producer.send(topic, json.dumps(body).encode(), key=asset.encode(), timestamp_ms=at)
    producer.flush()
    producer.close()


def settings_for(broker, detector, site, topic, group, **changes):
    given = {
        "sites": (Site(site, topic=topic),),
        "bootstrap": broker.bootstrap,
        "model_dir": detector,
        "group_id": group,
        "event_time": EventTimeRules(out_of_orderness=5.0),
        "limits": Limits(commit_interval=0.0),
        "hold_off_s": 300.0,
        **changes,
    }
    return ScoreSettings(**given)


def sent_alerts(broker, site):
    """Committed messages of a site's alert topic, in order of partition and offset."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, isolation_level="read_committed")
    try:
        name = alert_topic(site)
        partitions = [TopicPartition(name, n) for n in consumer.partitions_for_topic(name) or ()]
        if not partitions:
            return []
        ends = consumer.end_offsets(partitions)
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        found = []
        while any(consumer.position(tp) < end for tp, end in ends.items()):
            for records in consumer.poll(timeout_ms=500).values():
                found += [(r.key.decode(), json.loads(r.value)) for r in records]
        return found
    finally:
        consumer.close(autocommit=False)


def essence(alerts):
    """What must not depend on interruptions; an alert's peak may, see docs/alerts.md."""
    return sorted((key, a["started"], a["state"], a["ended"] or "", a["score"]) for key, a in alerts)


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


class Interrupted(Exception):
    pass


def test_a_scorer_broken_off_again_and_again_sends_what_an_undisturbed_one_does(
    broker, detector, topic, make_topic, monkeypatch
):
    from pipeline.scoring.model import ServingModel

    recordings = {"a": recording(700), "b": recording(700, seed=5, incidents=((30, 300), (350, 352)))}
    calm, rough = topic("calm"), topic("rough")
    sources = {calm: make_topic(2), rough: make_topic(2)}
    for source in sources.values():
        send(broker, source, recordings)
    model = ServingModel.load(detector)
    score(settings_for(broker, detector, calm, sources[calm], topic("group")), until="end", model=model)

    monkeypatch.setattr(topics, "_POLL_RECORDS", 53)
    rough_settings = settings_for(broker, detector, rough, sources[rough], topic("group"))
    restarts = 0
    random = np.random.default_rng(7)
    for _ in range(60):
        left = int(random.integers(1, 9))

        def interrupt(_done, _total):
            nonlocal left
            left -= 1
            if left == 0:
                raise Interrupted

        try:
            score(rough_settings, until="end", model=model, progress=interrupt)
            break
        except Interrupted:
            restarts += 1
    assert restarts >= 3
    assert essence(sent_alerts(broker, rough)) == essence(sent_alerts(broker, calm))


RUN = """
import sys
from pathlib import Path
from ingestion.settings import EventTimeRules, Limits, Site
from pipeline.scoring import topics
from pipeline.scoring.scorer import score
from pipeline.scoring.settings import ScoreSettings
topics._POLL_RECORDS = 20
bootstrap, folder, site, topic, group = sys.argv[1:]
settings = ScoreSettings(sites=(Site(site, topic=topic),), bootstrap=bootstrap, model_dir=Path(folder), group_id=group,
    event_time=EventTimeRules(out_of_orderness=5.0), limits=Limits(commit_interval=0.0), hold_off_s=300.0)
score(settings, until="end", progress=lambda done, total: print(done, flush=True))
"""


def test_kill_9_in_the_middle_loses_no_alert_and_doubles_none(broker, detector, topic, make_topic):
    calm, killed = topic("calm"), topic("killed")
    sources = {calm: make_topic(1), killed: make_topic(1)}
    recordings = {"a": recording(700), "b": recording(700, seed=3)}
    for source in sources.values():
        send(broker, source, recordings)
    score(settings_for(broker, detector, calm, sources[calm], topic("group")), until="end")
    group = topic("group")
    command = [sys.executable, "-c", RUN, broker.bootstrap, str(detector), killed, sources[killed], group]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 480:
            os.kill(process.pid, signal.SIGKILL)
            break
    assert process.wait(timeout=20) == -signal.SIGKILL
    partial = sent_alerts(broker, killed)
    assert 0 < len(partial) < len(sent_alerts(broker, calm))
    score(settings_for(broker, detector, killed, sources[killed], group), until="end")
    assert essence(sent_alerts(broker, killed)) == essence(sent_alerts(broker, calm))


def test_an_alert_that_outlives_a_restart_keeps_its_name(broker, detector, topic, make_topic):
    site, source, group = topic("site"), make_topic(1), topic("group")
    values = recording(600, incidents=((100, 500),))
    settings = settings_for(broker, detector, site, source, group)
    send(broker, source, {"press": values[:450]})
    score(settings, until="end")
    send(broker, source, {"press": values[450:]}, first=450)
    report = score(settings, until="end")
    assert report.sites[site].messages == 150
    alerts = [a for _, a in sent_alerts(broker, site)]
    assert [a["state"] for a in alerts] == ["open", "closed"]
    assert alerts[0]["alert_id"] == alerts[1]["alert_id"]
    assert alerts[1]["started"] == alerts[0]["event_time"]
    assert alerts[1]["duration_s"] > 390 * STEP_S


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
        scorer.join(30)
    assert not scorer.is_alive() and pq.read_metadata(path).num_rows == 119
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_later_scorer_takes_over_and_the_earlier_one_stops(broker, detector, topic, make_topic):
    site, source = topic("site"), make_topic(1)
    settings = settings_for(broker, detector, site, source, topic("group"))
    values = recording(400, incidents=((200, 220),))
    send(broker, source, {"a": values[:100]})
    ended, stop, reading = [], threading.Event(), threading.Event()

    def follow():
        try:
            ended.append(score(settings, stop=stop, progress=lambda done, _total: done and reading.set()))
        except Exception as error:
            ended.append(error)

    earlier = threading.Thread(target=follow, daemon=True)
    earlier.start()
    assert reading.wait(30)
    score(settings, until="end")
    send(broker, source, {"a": values[100:]}, first=100)
    earlier.join(30)
    stop.set()
    assert isinstance(ended[0], ScorerReplaced)
    assert sent_alerts(broker, site) == []
    score(settings, until="end")
    assert [a["state"] for _, a in sent_alerts(broker, site)] == ["open", "closed"]


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
    assert (empty.messages, empty.note) == (0, None)


def test_a_folder_that_is_no_detector_is_named(broker, tmp_path):
    with pytest.raises(ScoringFailed, match=str(tmp_path)):
        score(settings_for(broker, tmp_path, "s", "t", "g"), until="end")


def test_a_backlog_is_scored_in_large_batches(broker, detector, topic, make_topic):
    site, source = topic("site"), make_topic(1)
    send(broker, source, {"a": recording(5000, incidents=())})
    started = time.monotonic()
    report = score(settings_for(broker, detector, site, source, topic("group"), limits=Limits()), until="end")
    assert report.scored == 5000 - STEPS
    assert time.monotonic() - started < 30


def test_scores_are_published_whole_or_not_at_all(broker, detector, topic, make_topic, tmp_path):
    site, source = topic("site"), make_topic(1)
    send(broker, source, {"a": recording(100)})
    settings = settings_for(broker, detector, site, source, topic("group"), scores_dir=tmp_path)

    def fail(_done, _total):
        raise Interrupted

    with pytest.raises(Interrupted):
        score(settings, until="end", progress=fail)
    assert [p for p in Path(tmp_path).rglob("*") if p.is_file()] == []


def test_a_secured_site_is_scored_with_its_format_and_its_sensor_mapping(
    secured, detector, topic, tmp_path, capfd
):
    import shutil

    from pipeline.cli.main import run
    from tests.securing import SITE_RIGHTS

    site = topic("site")
    secured.grant(f"CN=user-{site}", site, (*SITE_RIGHTS,))
    secured.topic(f"iiot.{site}.telemetry.v1")
    producer = KafkaProducer(
        bootstrap_servers=secured.security.certificate_bootstrap,
        **secured.security.client(f"user-{site}"),
    )
    for i, row in enumerate(recording(300)):
        for sensor, value in zip(SENSORS, row.tolist(), strict=True):
            # Narrow messages; one sensor under its old name, one in another unit.
            name, sent = {"flow": ("Flow/old", value), "vibration": ("vibration", value * 1000)}.get(
                sensor, (sensor, value)
            )
            body = {"ts": (START + i * STEP_S) * 1000, "asset": "pump", "tag": name, "value": sent}
            producer.send(f"iiot.{site}.telemetry.v1", json.dumps(body).encode(), key=b"pump")
    producer.flush()
    producer.close()
    data = tmp_path / "data"
    shutil.copytree(detector, data / "detectors" / "fleet" / "7")
    config = tmp_path / "c.toml"
    config.write_text(
        f'[project]\nname = "fleet"\ndata_dir = "{data}"\n{secured.toml("certificate", f"user-{site}", tmp_path)}'
        f'[[sites]]\nname = "{site}"\n[ingestion]\ngroup = "g-{site}"\nformat = "narrow"\nmax_future_skew = "365d"\n'
        '[ingestion.sensors."Flow/old"]\nname = "flow"\n'
        f'[ingestion.sensors.vibration]\nunit = "mm/s"\nto = "m/s"\n[scoring]\ngroup = "g-{site}-score"\n'
    )
    assert run(["score", str(config), "--json"]) == 0, capfd.readouterr().err
    found = json.loads(capfd.readouterr().out)["sites"][site]
    assert (found["messages"], found["machines"], found["opened"]) == (900, 1, 1)
    foreign = topic("site")
    secured.topic(f"iiot.{foreign}.telemetry.v1")
    config.write_text(config.read_text().replace(f'name = "{site}"', f'name = "{foreign}"'))
    assert run(["score", str(config)]) == 3
    error = capfd.readouterr().err
    assert (
        f"Read on topic iiot.{foreign}.telemetry.v1" in error
        and f"Write on topic iiot.{foreign}.alerts.v1" in error
    )


def test_an_endless_scorer_goes_over_to_the_detector_of_a_later_run_and_an_unusable_one_changes_nothing(
    broker, detector, topic, make_topic, tmp_path
):
    site, source, group = topic("site"), make_topic(1), topic("group")
    versions, runs = tmp_path / "detectors" / "line", tmp_path / "runs"
    config = tmp_path / "fedplant.toml"
    config.write_text(
        f'[project]\nname = "line"\ndata_dir = "{tmp_path}"\n[kafka]\nbootstrap = "{broker.bootstrap}"\n'
        f'[[sites]]\nname = "{site}"\ntopic = "{source}"\n[ingestion]\nout_of_orderness = "5s"\n'
        f'[scoring]\ngroup = "{group}"\nhold_off = "5min"\n'
    )

    def finish_run(version, usable=True):
        folder = versions / str(version)
        if usable:
            shutil.copytree(detector, folder)
            told = folder / "assets.extra" / "detector.json"
            told.write_text(json.dumps({**json.loads(told.read_text()), "version": version}))
        (runs / f"run-{version}").mkdir(parents=True)
        summary = {
            "run_id": f"run-{version}",
            "version": version,
            "finished": f"2026-03-0{version}T00:00:00Z",
        }
        (runs / f"run-{version}" / "summary.json").write_text(json.dumps(summary))

    finish_run(7)
    values = recording(600, incidents=((200, 330), (400, 420)))
    send(broker, source, {"press": values[:250]})
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", "score", str(config)]
    process = subprocess.Popen(
        [*command, "--follow", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        said = Said(process.stderr)
        wait_for(lambda: len(sent_alerts(broker, site)) == 1)
        finish_run(8, usable=False)
        said.until("version 7 goes on scoring: ")
        finish_run(9)
        said.until("from now on scored by fleet version 9")
        send(broker, source, {"press": values[250:]}, first=250)
        wait_for(lambda: len(sent_alerts(broker, site)) == 4)
    finally:
        process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    told = json.loads(out)
    assert process.returncode == 0
    assert told["model_version"] == 9 and told["sites"][site]["steps"] == 599
    assert (told["sites"][site]["opened"], told["sites"][site]["closed"]) == (2, 2)
    first, ended, second, _ = (alert for _, alert in sent_alerts(broker, site))
    assert first["alert_id"] == ended["alert_id"] and ended["state"] == "closed"
    assert (first["model_version"], ended["model_version"], second["model_version"]) == (7, 7, 9)
    assert second["started"] == "2026-03-01T06:40:00.000Z"


class Said:
    """Lines of a stream, read beside the test."""

    def __init__(self, stream):
        self.lines = []
        threading.Thread(target=lambda: self.lines.extend(iter(stream.readline, "")), daemon=True).start()

    def until(self, text):
        wait_for(lambda: any(text in line for line in self.lines))


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)
