"""The example of streaming in the documentation, executed as it stands."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.architectures import TcnSpec
from models.export import export_detector
from tests.models.test_detector import fitted, plant

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "detection.md"


def test_the_example_of_a_stream_in_chunks_gives_the_scores_of_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {"machine-1-6": [plant(500, 1)], "machine-3-4": [plant(500, 2) * 2]}
    export_detector(
        fitted(TcnSpec(channels=8), runs), tmp_path / "fedplant-demo" / "data" / "detectors" / "machines"
    )
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    names: dict[str, Any] = {}
    exec(example, names)
    site, fresh = names["site"], names["start"](site=names["site"])
    whole = names["stream"](site=site, values=tf.constant(names["readings"]), **fresh)
    np.testing.assert_allclose(np.concatenate(names["scores"], axis=1), whole["score"], rtol=1e-5)
    assert np.isfinite(names["scores"][-1]).all() and whole["known_site"].numpy().all()
    # The state behind a gap can be gone on from.
    again = names["stream"](site=site, values=tf.constant(names["readings"]), **names["state"])
    assert not np.array_equal(again["threshold"], whole["threshold"])
