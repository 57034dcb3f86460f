import json
import os
import subprocess
import sys
from pathlib import Path

from ingestion.audit import audit
from ingestion.consumer import ingest
from tests.ingestion.harness import on_disk, produce, reading, settings_for

# A limit on file size refuses writes with EFBIG exactly as a full disk does with ENOSPC, and needs no rights.
RUN = """
import resource, signal, sys
from pathlib import Path
from ingestion.consumer import ingest
from ingestion.errors import StorageError
from tests.ingestion.harness import settings_for
class Broker: bootstrap = sys.argv[1]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    ingest(settings_for(Broker, sys.argv[2], Path(sys.argv[3])), until="end")
except StorageError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_disk_without_room_is_one_clear_error_and_the_next_run_loses_nothing(
    broker, make_topic, topic, tmp_path: Path
):
    site = topic("site")
    produce(broker, make_topic(1, f"iiot.{site}.telemetry.v1"), [reading(s, seq=s) for s in range(200)])
    done = subprocess.run(
        [sys.executable, "-c", RUN, broker.bootstrap, site, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 6, done.stderr
    assert "cannot be written" in done.stdout and "free space" in done.stdout
    assert not list(tmp_path.glob("windows/*/*/*/*.parquet"))
    settings = settings_for(broker, site, tmp_path, close_open=True)
    assert ingest(settings, until="end").sites[site].kept == 200
    assert on_disk(tmp_path) == {(0, offset): 1 for offset in range(200)}
    assert audit(settings).clean and json.dumps(audit(settings).to_dict())
