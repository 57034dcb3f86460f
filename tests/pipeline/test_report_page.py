"""The page tells the truth about a run, survives whatever is missing or strange, and needs nothing but itself."""

import base64
import json
import math
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion.errors import InputDataError
from ingestion.layout import USUAL
from pipeline import report
from pipeline.artefacts import (
    Curve,
    Curves,
    Evaluation,
    IngestionCounts,
    RoundRecord,
    RunSummary,
    read_summary,
    write_json,
)
from pipeline.config import Config, SiteConfig
from pipeline.errors import PipelineError
from pipeline.evaluation.metrics import Metrics
from pipeline.jobs.reporting import label_folder
from pipeline.report import write_report
from pipeline.report.collect import read_site
from pipeline.report.downsample import Envelope
from pipeline.report.scale import even_ticks
from pipeline.report.signals import Clip
from pipeline.scoring.writer import ScoreWriter

MINUTE = 60 * 10**9
START = pd.Timestamp("2026-03-01", tz="UTC").value
SENSORS = ("temp", "flow", "speed")
HOSTILE = "<img src=x onerror=alert(1)>&\"'</script>"


def write_scores(
    run, site, count=3000, peaks=((500, 530), (1800, 1803)), label=None, asset=None, threshold=2.0
):
    """One site's scores, quiet but for loud stretches whose height is 10 times the threshold."""
    time_ns = START + np.arange(count, dtype=np.int64) * MINUTE
    score = np.random.default_rng(3).uniform(0.2, 1.2, count)
    score[:30] = np.nan
    values = np.random.default_rng(4).normal(size=(count, len(SENSORS)))
    contribution = np.full((count, len(SENSORS)), 0.1)
    for a, b in peaks:
        score[a:b] = 10 * threshold
        contribution[a:b] = (12.0, 6.0, 2.0)
        values[a:b, 0] = 50.0
    with ScoreWriter(run, site, SENSORS) as writer:
        for part in np.array_split(np.arange(count), 5):
            writer.write(
                asset or site,
                time_ns[part],
                score[part],
                np.full(len(part), float(threshold)),
                contribution[part],
                values[part],
                None if label is None else label[part],
            )
    return time_ns


def full_run(run, sites=("press", "mill")):
    label = np.zeros(3000, int)
    label[495:520] = 1
    label[1000:1010] = 1
    for site in sites:
        write_scores(run, site, label=label)
    by_mode = {"federated": Metrics(auc_pr=0.6, anomaly_share=0.01), "local": Metrics(auc_pr=0.45)}
    evaluation = Evaluation.of_sites(dict.fromkeys(sites, by_mode))
    write_json(run / "evaluation.json", evaluation)
    rounds = tuple(RoundRecord(n, 1 / n, 1.2 / n, 0.5, dict.fromkeys(sites, 1.3 / n)) for n in range(1, 6))
    write_json(
        run / "curves.json", Curves({"federated": Curve(rounds, 4, "converged"), "local": Curve(rounds[:3])})
    )
    write_json(
        run / "summary.json",
        RunSummary(
            "run-7",
            sites=tuple(sites),
            sensors=3,
            command="fedplant demo",
            ingestion={s: IngestionCounts(120, 90, 4, 3, 7, {"not_json": 7}, left_open=16) for s in sites},
        ),
    )
    write_json(run / "manifest.json", {"versions": {"python": "3.11.7"}, "seeds": {"weights": 1}})
    return run


def test_neighbouring_steps_are_one_alert_however_far_apart_steps_are(tmp_path):
    write_scores(tmp_path, "dam", peaks=((500, 503),))
    hold_off = {"configuration": {"scoring": {"hold_off": 10.0}}}
    for manifest, alerts in ((hold_off, "3 alerts"), ({**hold_off, "step_seconds": 60.0}, "1 alert")):
        write_json(tmp_path / "manifest.json", manifest)
        assert f"<small>{alerts}" in write_report(tmp_path, tmp_path / "page.html").read_text()


class Reader(HTMLParser):
    """Text, tags and attributes of a page; fails the test on an element that is never closed in order."""

    VOID = frozenset({"meta", "br", "img", "input"})

    def __init__(self, html):
        super().__init__()
        self.text, self.tags, self.attributes, self.stack = [], [], [], []
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in ("script", "style"):
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def page(run, tmp_path, **options):
    html = write_report(run, tmp_path / "report.html", **options).read_text(encoding="utf-8")
    return html, Reader(html)


def charts(html):
    return [
        json.loads(found) for found in re.findall(r'<script type="application/json">(.*?)</script>', html)
    ]


def test_the_headline_says_what_was_learned_and_how_it_did(tmp_path):
    _, read = page(full_run(tmp_path / "run"), tmp_path)
    assert "2 sites learned one anomaly detector together from 3 sensors." in read.words
    assert "it raised 4 alerts" in read.words
    assert "Of 4 known incidents it noticed 2 (50 %), typically 5 min after they began." in read.words
    assert "2 alerts had no known incident behind them." in read.words
    assert "better than each site learning alone (ranking quality 0.60 against 0.45" in read.words
    assert "Look at the strongest alert first: press , where temp, flow, speed stood out." in read.words


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    html, read = page(full_run(tmp_path / "run"), tmp_path)
    assert not {"link", "iframe", "img", "object", "embed", "base"} & set(read.tags)
    assert [v for k, v in read.attributes if k in ("src", "srcset", "action", "poster", "xlink:href")] == []
    assert all(v.startswith("#") for k, v in read.attributes if k == "href")
    outside = re.sub(r"http://www\.w3\.org/2000/svg", "", html)
    assert not re.search(r"https?://|@import|url\((?!#)", outside)
    assert "default-src 'none'" in html


@pytest.mark.parametrize(
    "missing", ["manifest.json", "curves.json", "evaluation.json", "summary.json", "scores", "signals"]
)
def test_a_missing_part_is_stated_and_the_rest_is_there(tmp_path, missing):
    run = full_run(tmp_path / "run")
    target = run / missing
    target.rename(tmp_path / "elsewhere")
    _, read = page(run, tmp_path)
    stated = {
        "manifest.json": "holds no manifest.json",
        "curves.json": "recorded no learning curve",
        "evaluation.json": "Nothing was compared in this run",
        "summary.json": "holds no summary.json",
        "scores": "This run holds no scores of the site.",
        "signals": "The run kept no sensor values around alerts",
    }
    for name, words in stated.items():
        assert (words in read.words) == (name == missing)


@pytest.mark.parametrize(
    "name", ["summary.json", "curves.json", "scores/press.parquet", "signals/press.parquet"]
)
def test_a_damaged_part_is_named_and_the_rest_is_there(tmp_path, name):
    run = full_run(tmp_path / "run")
    (run / name).write_bytes(b"{half")
    _, read = page(run, tmp_path)
    assert "could not be read" in read.words
    assert "mill" in read.words


def test_an_empty_run_folder_gives_a_page_and_a_missing_one_an_error(tmp_path):
    (tmp_path / "run").mkdir()
    _, read = page(tmp_path / "run", tmp_path)
    assert "This run holds no site's data." in read.words
    with pytest.raises(PipelineError, match="no such run folder"):
        write_report(tmp_path / "absent", tmp_path / "x.html")


def test_names_from_topics_can_do_no_harm(tmp_path):
    run = tmp_path / "run"
    site = "a&b <i>"
    time_ns = START + np.arange(200, dtype=np.int64) * MINUTE
    score = np.ones(200)
    score[100:120] = 9.0
    with ScoreWriter(run, site, (HOSTILE, "s")) as writer:
        writer.write(HOSTILE, time_ns, score, np.full(200, 2.0), np.ones((200, 2)), np.ones((200, 2)))
    metrics = {HOSTILE: Metrics(auc_pr=0.5)}
    write_json(run / "evaluation.json", Evaluation.of_sites({HOSTILE: metrics}, (HOSTILE,)))
    curve = Curve((RoundRecord(1, 1.0, 1.0, 1.0, {HOSTILE: 1.0}),), 1, HOSTILE)
    write_json(run / "curves.json", Curves({"federated": curve, HOSTILE: curve}))
    counts = {HOSTILE: IngestionCounts(5, 1, 0, 0, 4, {HOSTILE: 4})}
    write_json(
        run / "summary.json",
        RunSummary(
            HOSTILE,
            sites=(site,),
            command=HOSTILE,
            ingestion=counts,
            skipped_sites={HOSTILE: HOSTILE},
            warnings=(HOSTILE,),
            model_path=HOSTILE,
        ),
    )
    write_json(run / "manifest.json", {HOSTILE: {HOSTILE: HOSTILE}})
    html, read = page(run, tmp_path)
    assert "img" not in read.tags
    assert not [k for k, _ in read.attributes if k.startswith("on")]
    assert html.count("<script") == html.count("</script>") == len(charts(html)) + 1
    assert HOSTILE in " ".join(read.text)


def test_a_single_step_peak_survives_any_reduction(tmp_path):
    run = tmp_path / "run"
    write_scores(run, "press", count=500_000, peaks=((123_456, 123_457), (400_000, 400_001)))
    started = time.monotonic()
    out = write_report(run, tmp_path / "r.html")
    assert time.monotonic() - started < 20
    assert out.stat().st_size < 8_000_000
    (chart,) = charts(out.read_text())
    pairs = np.frombuffer(base64.b64decode(chart["q"]), "<u2").reshape(-1, 2).astype(float)
    assert len(pairs) == chart["n"] < 50_000
    high = np.where(pairs[:, 1] == 65535, -1, pairs[:, 1])
    assert (high > 0.9 * high.max()).sum() == 2
    level = math.exp((high.max() / 65534 - 0.4) / 0.6 * math.log(chart["top"]))
    assert level == pytest.approx(10.0, rel=1e-3)
    assert len(chart["alerts"]) == 2


def test_alerts_incidents_and_delays_are_those_of_the_data(tmp_path):
    run = full_run(tmp_path / "run")
    view = read_site(run / "scores" / "press.parquet", None, hold_off_ns=10 * MINUTE, spans=1000)
    assert [(a.start_ns, a.end_ns) for a in view.alerts] == [
        (START + 500 * MINUTE, START + 529 * MINUTE),
        (START + 1800 * MINUTE, START + 1802 * MINUTE),
    ]
    assert [a.true for a in view.alerts] == [True, False]
    assert [i.delay_s for i in view.incidents] == [300.0, None]
    assert [c.sensor for c in view.alerts[0].sensors] == ["temp", "flow", "speed"]
    assert view.alerts[0].ratio == pytest.approx(10.0)
    assert [c.sensor for c in view.alerts[0].clips] == ["temp", "flow", "speed"]
    assert np.nanmax(view.alerts[0].clips[0].values.high) == 50.0


def test_labels_given_outweigh_those_in_the_file_and_may_be_naive_times(tmp_path):
    run = full_run(tmp_path / "run")
    moments = pd.date_range("2026-03-01", periods=3000, freq="1min")
    labels = pd.DataFrame({"timestamp": moments, "label": 0})
    labels.loc[1795:1801, "label"] = 1
    view = read_site(run / "scores" / "press.parquet", labels, hold_off_ns=10 * MINUTE, spans=1000)
    assert [a.true for a in view.alerts] == [False, True]
    assert [i.delay_s for i in view.incidents] == [300.0]


@pytest.mark.parametrize("unknown", [np.full(3000, -1, np.int8), np.full(3000, np.nan)], ids=["-1", "nan"])
@pytest.mark.parametrize("before", [False, True])
def test_labels_that_are_not_known_are_none(tmp_path, before, unknown):
    """As a backtest of files without labels writes them; releases before wrote them as -1."""
    run = tmp_path / "run"
    write_scores(run, "press", label=unknown)
    path = run / "scores" / "press.parquet"
    table = pq.read_table(path)
    assert table["label"].null_count == 3000
    if before:
        minus_one = pa.array(np.full(3000, -1, np.int8))
        pq.write_table(table.set_column(table.column_names.index("label"), "label", minus_one), path)
    view = read_site(path, None, hold_off_ns=10 * MINUTE, spans=1000)
    assert view.incidents is None and view.alerts and all(each.true is None for each in view.alerts)


def partly_labelled(run, every=3, blank=()):
    """`full_run` of one site with a label at every so manieth row, and none in some stretches."""
    label = np.full(3000, -1)
    label[::every] = 0
    for begin, end in ((495, 520), (1000, 1010)):
        label[begin:end] = np.where(label[begin:end] == 0, 1, -1)
    for begin, end in blank:
        label[begin:end] = -1
    peaks = ((500, 530), (700, 760), (1800, 1803), (2500, 2520))
    write_scores(run, "press", label=label, peaks=peaks)


def test_alerts_in_time_that_is_not_labelled_are_told_apart_and_count_neither_as_right_nor_as_false(tmp_path):
    partly_labelled(tmp_path / "run", blank=((740, 800), (1700, 2400)))
    view = read_site(tmp_path / "run" / "scores" / "press.parquet", None, hold_off_ns=10 * MINUTE, spans=1000)
    # The second reaches from labelled time into other.
    assert [a.true for a in view.alerts] == [True, None, None, False]
    # Labelled at every third row, an incident is one all the same.
    assert [i.delay_s for i in view.incidents] == [300.0, None]
    html, read = page(tmp_path / "run", tmp_path)
    assert "1 alert had no known incident behind it." in read.words
    assert (
        "2 alerts lie in time that is not labelled, or only in part, and count neither as right nor as false"
        in (read.words)
    )
    assert html.count("<td>not labelled</td>") == 2 and html.count("<td>no</td>") == 1
    assert "Alerts not labelled" in read.words and "alert in time that is not labelled" in read.words
    (chart,) = charts(html)
    assert [a[2] for a in chart["alerts"]] == [0, 2, 2, 1]
    assert html.count('class="alert untold"') == 2


def test_where_everything_is_labelled_nothing_is_said_of_time_that_is_not(tmp_path):
    html, _ = page(full_run(tmp_path / "run"), tmp_path)
    assert "not labelled" not in html and "alert untold" not in html.split("</style>")[1].split("<script>")[0]
    assert all(a[2] < 2 for chart in charts(html) for a in chart["alerts"])


def test_labels_that_hold_no_incident_accuse_only_alerts_in_labelled_time(tmp_path):
    label = np.zeros(3000, int)
    label[1500:] = -1
    write_scores(tmp_path / "run", "press", label=label)
    _, read = page(tmp_path / "run", tmp_path)
    assert "every alert in labelled time is a false one" in read.words
    assert "1 alert lies in time that is not labelled, or only in part, and counts neither" in read.words


def test_labels_without_an_incident_accuse_no_alert_where_there_is_none(tmp_path):
    write_scores(tmp_path / "run", "press", peaks=(), label=np.zeros(3000, int))
    _, read = page(tmp_path / "run", tmp_path)
    assert "it raised 0 alerts" in read.words and "The labels hold no incident in this time." in read.words
    assert "false one" not in read.words


def test_the_comparison_says_how_much_it_is_of_since_charts_show_what_was_scored_live(tmp_path):
    run = full_run(tmp_path / "run")
    ways = {"federated": Metrics(auc_pr=0.6, rows=690), "local": Metrics(auc_pr=0.45, rows=690)}
    write_json(run / "evaluation.json", Evaluation.of_sites(dict.fromkeys(("press", "mill"), ways)))
    _, read = page(run, tmp_path)
    assert "Mean over all sites, judged on 1 380 steps that were not learned from" in read.words


@pytest.mark.parametrize("shift", [0, 7, 59])
def test_labels_of_readings_off_the_grid_leave_no_alert_of_labelled_time_untold(tmp_path, shift):
    """A row of scores stands for the readings since the row before it."""
    run = full_run(tmp_path / "run")
    moments = pd.date_range("2026-03-01", periods=3000, freq="1min") - pd.Timedelta(seconds=shift)
    labels = pd.DataFrame({"timestamp": moments, "label": 0})
    labels.loc[495:519, "label"] = 1
    labels.loc[1803:, "label"] = 1
    given = {"labels": labels, "hold_off_ns": 10 * MINUTE, "spans": 1000}
    view = read_site(run / "scores" / "press.parquet", **given)
    assert [a.true for a in view.alerts] == [True, False]
    assert [i.delay_s for i in view.incidents] == [300.0 + shift, None]
    # With a label at every third reading nobody can tell when between 1800 and 1803 the second incident began.
    labels["label"] = labels["label"].where(labels.index % 3 == 0)
    view = read_site(run / "scores" / "press.parquet", **given)
    assert [a.true for a in view.alerts] == [True, None]
    assert [i.delay_s for i in view.incidents] == [300.0 + shift, None]


def test_without_labels_nothing_is_claimed_about_right_and_wrong(tmp_path):
    write_scores(tmp_path / "run", "press")
    _, read = page(tmp_path / "run", tmp_path)
    assert "No labels were given" in read.words
    assert "Known incident" not in read.words
    assert "false" not in read.words.lower()


def test_sixty_sites_fit_into_one_page(tmp_path):
    run = tmp_path / "run"
    for i in range(60):
        write_scores(run, f"site-{i:02d}", count=4000)
    out = write_report(run, tmp_path / "r.html")
    assert out.stat().st_size < 8_000_000
    assert len(charts(out.read_text())) == 60


def test_a_site_with_too_little_data_or_none_says_so(tmp_path):
    run = tmp_path / "run"
    write_scores(run, "short", count=20, peaks=())
    (run / "scores").mkdir(exist_ok=True)
    table = pq.read_table(run / "scores" / "short.parquet")
    pq.write_table(table.slice(0, 0), run / "scores" / "none.parquet")
    pq.write_table(pa.table({"x": [1]}), run / "scores" / "strange.parquet")
    _, read = page(run, tmp_path)
    assert "needs a full window before the first one" in read.words
    assert "No readings were scored for this site." in read.words
    assert "lacks the column 'event_time'" in read.words


def test_the_minimal_documented_columns_are_enough(tmp_path):
    scores = tmp_path / "run" / "scores"
    scores.mkdir(parents=True)
    time_ns = pa.array(START + np.arange(100) * MINUTE).cast(pa.timestamp("ns", "UTC"))
    score = np.r_[np.ones(90), np.full(10, 5.0)]
    columns = {
        "event_time": time_ns,
        "asset": ["m"] * 100,
        "score": score,
        "threshold": np.full(100, 2.0),
        "is_anomaly": score > 2,
        "top_sensors": [["flow", "temp"]] * 100,
    }
    pq.write_table(pa.table(columns), scores / "m.parquet")
    _, read = page(tmp_path / "run", tmp_path)
    assert "Contributing most, without sizes: flow, temp." in read.words


def test_a_run_of_files_without_rounds_claims_no_topic_and_no_weights(tmp_path):
    topics = Reader(write_report(full_run(tmp_path), tmp_path / "page.html").read_text())
    assert "Went from each site’s Kafka topic" in topics.words and "Changes of model weights" in topics.words
    write_json(tmp_path / "summary.json", RunSummary("run-8", sites=("press", "mill"), sensors=3))
    write_json(tmp_path / "curves.json", Curves())
    files = Reader(write_report(tmp_path, tmp_path / "page.html").read_text())
    assert "read from files on this machine" in files.words and "There were no rounds" in files.words
    assert "Went from" not in files.words and "Changes of model weights" not in files.words
    assert "None were sent" in files.words and "curves.json" not in files.words


def test_a_few_alerts_in_a_few_hours_are_not_called_more_than_five_a_day(tmp_path):
    write_scores(tmp_path, "short", count=300, peaks=((100, 102), (200, 202)))
    write_scores(tmp_path, "noisy", count=300, peaks=[(n, n + 2) for n in range(50, 300, 40)])
    page = write_report(tmp_path, tmp_path / "page.html").read_text()
    assert re.search(r"<li>(<b>\w+</b>): more than five alerts a day", page)[1] == "<b>noisy</b>"


def test_names_without_a_place_to_break_stay_on_their_card():
    sheet = (Path(report.__file__).parent / "static" / "page.css").read_text()
    body = re.search(r"^body \{([^}]*)\}", sheet, re.MULTILINE)[1]
    assert re.search(r"overflow-wrap:\s*(break-word|anywhere)", body)


def test_messages_are_accounted_for_by_site_and_reason(tmp_path):
    _, read = page(full_run(tmp_path / "run"), tmp_path)
    assert "press 120 90 16 4 3 7 not_json: 7" in read.words
    assert "Of what this run took off the topics itself" in read.words
    assert "Still open Of a time window that had not ended; the next run reads them again." in read.words


def test_what_an_earlier_ingestion_brought_is_told_beside_what_the_run_read_itself(tmp_path):
    run = full_run(tmp_path / "run")
    assert "On disk in all" not in page(run, tmp_path)[1].words
    summary = read_summary(run)
    counts = dict.fromkeys(summary.sites, IngestionCounts())
    on_disk = dict.fromkeys(summary.sites, 504)
    write_json(run / "summary.json", replace(summary, ingestion=counts, on_disk=on_disk))
    words = page(run, tmp_path)[1].words
    assert "press 0 0 0 0 0 0 – 504" in words
    assert "On disk in all Readings in the window files that this run is made from" in words


def test_the_end_of_a_training_is_told_in_words(tmp_path):
    run = full_run(tmp_path / "run")
    assert "training ended because the error no longer fell." in page(run, tmp_path)[1].words
    rounds = tuple(RoundRecord(n, 1 / n, 1.2 / n, 0.5, {}) for n in range(1, 6))
    write_json(run / "curves.json", Curves({"federated": Curve(rounds, 5, "rounds")}))
    words = page(run, tmp_path)[1].words
    assert "training ended after all rounds that it may take (training.rounds)." in words


def test_the_small_chart_of_a_sensor_says_from_where_to_where_it_goes(tmp_path):
    _, read = page(full_run(tmp_path / "run"), tmp_path)
    lows = re.findall(r"temp own values, (\S+) to 50\b", read.words)
    values = np.random.default_rng(4).normal(size=(3000, len(SENSORS)))[:, 0]
    assert len(lows) == 4 and set(lows) <= {f"{value:.3g}" for value in values if value < -1}
    part = Envelope(START, START + MINUTE, np.array([np.nan, 2.0, -3.0]), np.array([np.nan, 7.0, 1.0]))
    assert Clip("temp", part).extremes == (-3.0, 7.0)
    assert Clip("temp", Envelope(START, START, np.array([np.nan]), np.array([np.nan]))).extremes is None


def test_labels_of_other_sites_are_refused_and_those_of_some_are_used(tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "press-1.csv").write_text("timestamp,temp,label\n2026-03-01,1,1\n2026-03-02,2,0\n")
    said: list[str] = []
    with pytest.raises(
        InputDataError, match="no labels for mill, press, only files of press-1; name each file"
    ):
        label_folder(
            Config(sites=[SiteConfig(name="press"), SiteConfig(name="mill")]), labels, USUAL, said.append
        )
    assert said == []
    sites = [SiteConfig(name="press-1"), SiteConfig(name="mill")]
    assert list(label_folder(Config(sites=sites), labels, USUAL, said.append)) == ["press-1"]
    assert said == ["no labels for mill"]


def test_the_report_is_replaced_whole(tmp_path):
    out = tmp_path / "r.html"
    out.write_text("old")
    write_report(full_run(tmp_path / "run"), out)
    assert out.read_text().endswith("</html>\n")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("low", "high", "most", "wanted"),
    [
        (0.12, 0.53, 5, [0.2, 0.3, 0.4, 0.5]),
        (1, 14, 8, [2, 4, 6, 8, 10, 12, 14]),
        (5, 5, 4, [5]),
        (0, 1e-9, 2, [0, 5e-10, 1e-9]),
    ],
)
def test_marks_stand_at_round_numbers(low, high, most, wanted):
    assert even_ticks(low, high, most) == pytest.approx(wanted)
