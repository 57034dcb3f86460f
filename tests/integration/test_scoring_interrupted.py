"""Each alert exactly once, whatever interrupts the scorer: breaks, kill -9, restarts, a second scorer."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.scoring import topics
from pipeline.scoring.scorer import score
from pipeline.scoring.settings import ScorerReplaced
from tests.integration.scoring import (
    STEP_S,
    Interrupted,
    essence,
    export_detector,
    recording,
    send,
    sent_alerts,
    settings_for,
)
from tests.waiting import HANGS


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
    for _ in range(600):
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
import os, signal, sys, threading
from pathlib import Path
from ingestion.settings import EventTimeRules, Limits, Site
from pipeline.scoring import topics
from pipeline.scoring.scorer import score
from pipeline.scoring.settings import ScoreSettings
topics._POLL_RECORDS = 20
bootstrap, folder, site, topic, group = sys.argv[1:]
settings = ScoreSettings(sites=(Site(site, topic=topic),), bootstrap=bootstrap, model_dir=Path(folder), group_id=group,
    event_time=EventTimeRules(out_of_orderness=5.0), limits=Limits(commit_interval=0.0), hold_off_s=300.0)

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

def progress(done, total, begun=[]):
    if done >= 480 and not begun:
        # By itself, and a little later: from outside, a busy machine might come when all is done.
        begun.append(threading.Timer(0.02, killed))
        begun[0].start()

score(settings, until="end", progress=progress)
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
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
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


def test_a_set_point_sent_once_is_still_known_after_a_restart_hours_later(
    broker, topic, make_topic, tmp_path
):
    hour = 3600 * 10**9
    detector = export_detector(tmp_path / "detector" / "7", hold_ns=[300 * 10**9, 300 * 10**9, 24 * hour])
    values = recording(700)
    values[1:, 2] = np.nan
    values[0, 2] = 50.0
    found = {}
    for name, cuts in (("calm", [700]), ("restarted", [300, 450, 700])):
        site, source, group = topic(name), make_topic(1), topic("group")
        first = 0
        for last in cuts:
            send(broker, source, {"press": values[first:last]}, first=first)
            settings = settings_for(broker, detector, site, source, group, scores_dir=tmp_path / name)
            report = score(settings, until="end")
            first = last
        found[name] = pd.read_parquet(report.sites[site].score_file)
    assert len(found["calm"]) == 699
    pd.testing.assert_frame_equal(found["calm"], found["restarted"])
    # What is held shows: the part that remembers everything has seen the set point all along.
    assert found["calm"]["score"].iloc[-1] > 0.1 * 50 * (1 - 0.999**650)


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
    assert reading.wait(HANGS)
    score(settings, until="end")
    send(broker, source, {"a": values[100:]}, first=100)
    earlier.join(HANGS)
    stop.set()
    assert isinstance(ended[0], ScorerReplaced)
    assert sent_alerts(broker, site) == []
    score(settings, until="end")
    assert [a["state"] for _, a in sent_alerts(broker, site)] == ["open", "closed"]


def test_scores_are_published_whole_or_not_at_all(broker, detector, topic, make_topic, tmp_path):
    site, source = topic("site"), make_topic(1)
    send(broker, source, {"a": recording(100)})
    settings = settings_for(broker, detector, site, source, topic("group"), scores_dir=tmp_path)

    def fail(_done, _total):
        raise Interrupted

    with pytest.raises(Interrupted):
        score(settings, until="end", progress=fail)
    assert [p for p in Path(tmp_path).rglob("*") if p.is_file()] == []
