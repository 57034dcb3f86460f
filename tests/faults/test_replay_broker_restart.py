from __future__ import annotations

import threading

from ingestion.replay import replay
from tests.integration.test_replay_sends import everything, orjson, site_file
from tests.waiting import HANGS


def test_a_broker_killed_and_restarted_mid_replay_loses_and_doubles_nothing(fresh_broker):
    broker = fresh_broker()
    file = site_file("s", rows=10_000)
    killed = threading.Event()

    def kill_once(done, total, _site):
        if done >= 5_000 and not killed.is_set():
            killed.set()
            broker.kill()
            threading.Thread(target=broker.restart).start()

    report = replay({"s": file}, bootstrap=broker.bootstrap, progress=kill_once, timeout=HANGS)
    assert killed.is_set()
    assert report.messages == 20_000
    messages = [orjson.loads(record.value) for record in everything(broker.bootstrap, "iiot.s.telemetry.v1")]
    for asset in ("a", "b"):
        assert [m["seq"] for m in messages if m["asset"] == asset] == list(range(10_000))
