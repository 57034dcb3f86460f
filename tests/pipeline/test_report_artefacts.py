"""The run folder's JSON survives writing and reading, and says what is wrong when it is damaged."""

import json
import math

import numpy as np
import pytest

from pipeline.artefacts import (
    ArtefactError,
    Curve,
    Curves,
    Evaluation,
    IngestionCounts,
    RoundRecord,
    RunSummary,
    read_curves,
    read_evaluation,
    read_summary,
    write_json,
)
from pipeline.evaluation.metrics import Metrics


def test_curves_survive_the_round_trip(tmp_path):
    curves = Curves(
        {
            "federated": Curve((RoundRecord(1, 0.5, 0.4, 1.5, {"a": 0.3, "b": 0.5}),), 1, "converged"),
            "zscore": Curve(),
        }
    )
    write_json(tmp_path / "curves.json", curves)
    assert read_curves(tmp_path) == curves


def test_not_a_number_becomes_null_and_comes_back_as_unknown(tmp_path):
    metrics = Metrics(
        auc_pr=math.nan, auc_roc=np.float32(0.5), detection_delay=(60.0, math.inf), rows=np.int64(3)
    )
    write_json(tmp_path / "evaluation.json", Evaluation({"a": {"federated": metrics}}))
    raw = json.loads((tmp_path / "evaluation.json").read_text())
    assert raw["sites"]["a"]["federated"]["auc_pr"] is None
    assert raw["sites"]["a"]["federated"]["rows"] == 3
    assert read_evaluation(tmp_path).sites["a"]["federated"].auc_roc == 0.5


def test_mean_averages_figures_sums_counts_and_skips_unknown_ones():
    sites = {
        "a": {"federated": Metrics(auc_pr=0.4, events=2, rows=10, detection_delay=(1.0,), threshold=3.0)},
        "b": {"federated": Metrics(auc_pr=0.6, events=3, rows=20, detection_delay=(5.0,), threshold=9.0)},
        "c": {"federated": Metrics(rows=5), "pca": Metrics(auc_pr=0.1)},
    }
    mean = Evaluation.of_sites(sites).mean
    assert mean["federated"] == Metrics(auc_pr=0.5, events=5, rows=35, detection_delay=(1.0, 5.0))
    assert mean["pca"].auc_pr == 0.1


def test_summary_survives_the_round_trip_and_ignores_keys_of_later_versions(tmp_path):
    summary = RunSummary(
        "r1",
        sites=("a", "b"),
        ingestion={"a": IngestionCounts(read=5, kept=4, dead_lettered=1, reasons={"not_json": 1})},
        metrics={"federated": Metrics(auc_pr=0.5)},
        warnings=("site b had no data",),
    )
    write_json(tmp_path / "summary.json", {**summary.to_json(), "from_the_future": 1})
    assert read_summary(tmp_path) == summary


@pytest.mark.parametrize("content", ['{"federated": ', "[1, 2]", '{"federated": 3}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "curves.json").write_text(content)
    with pytest.raises(ArtefactError, match=r"curves\.json"):
        read_curves(tmp_path)


def test_an_absent_file_is_none(tmp_path):
    assert read_curves(tmp_path) is None


def test_writing_leaves_no_temporary_file_behind(tmp_path):
    write_json(tmp_path / "summary.json", RunSummary("r"))
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]
