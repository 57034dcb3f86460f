"""What the tests of live scoring share: a small exported model, a plant that sends, and a look at the alerts."""

import json
import threading

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from ingestion.settings import EventTimeRules, Limits, Site
from pipeline.scoring.settings import ScoreSettings, alert_topic
from tests.waiting import wait_for

STEPS, SENSORS, STEP_S = 16, ("temperature", "vibration", "flow"), 60
START = 1_772_323_200


def export_detector(folder, **more):
    """A SavedModel with the documented signatures: distance of a step from the mean of the frame that ends there, and a part
    that remembers everything ever seen, so that forgetting anything shows in the scores. `more` is added to its description."""
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
        **more,
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


class Interrupted(Exception):
    """Breaks a scorer off."""


class Said:
    """Lines of a stream, read beside the test."""

    def __init__(self, stream):
        self.lines = []
        threading.Thread(target=lambda: self.lines.extend(iter(stream.readline, "")), daemon=True).start()

    def until(self, text):
        wait_for(lambda: any(text in line for line in self.lines))
