"""Batches that are small on the wire and huge when unpacked, of every codec, cost themselves and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

from kafka import KafkaProducer

from ingestion.audit import audit
from tests.ingestion.harness import letters, reading, settings_for
from tests.waiting import HANGS

BOMB = 24 << 20
CODECS = ("gzip", "zstd", "lz4", "snappy")
_RUN = """
import json, sys
from pathlib import Path
from ingestion.consumer import ingest
from tests.ingestion.harness import settings_for
class Broker: bootstrap = sys.argv[1]
report = ingest(settings_for(Broker, sys.argv[2], Path(sys.argv[3]), close_open=True), until="end")
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({**report.to_dict()["sites"][sys.argv[2]], "peak_mb": int(peak.split()[1]) / 1024}))
"""


def test_compressed_bombs_are_dead_letters_between_good_neighbours(
    broker, make_topic, topic, tmp_path: Path
) -> None:
    site = topic("site")
    name = make_topic(1, f"iiot.{site}.telemetry.v1", {"max.message.bytes": str(8 << 20)})
    for second, codec in enumerate(CODECS):
        producer = KafkaProducer(
            bootstrap_servers=broker.bootstrap, compression_type=codec, max_request_size=2 * BOMB, linger_ms=0
        )
        for value in (reading(second, seq=2 * second), bytes(BOMB), reading(second, "b", seq=2 * second + 1)):
            producer.send(name, value, partition=0).get(HANGS)
        producer.close()
    command = [sys.executable, "-c", _RUN, broker.bootstrap, site, str(tmp_path)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout)
    assert (counts["messages"], counts["kept"]) == (12, 8)
    assert counts["dead_lettered_by_reason"] == {"too_large": 4}
    assert counts["peak_mb"] < 700
    dead = letters(broker, f"iiot.{site}.dlq")
    assert [dict(letter.headers)["cut_from_bytes"] for letter in dead] == [str(BOMB).encode()] * 4
    assert all(len(letter.value) <= 65536 for letter in dead)
    assert audit(settings_for(broker, site, tmp_path)).clean
