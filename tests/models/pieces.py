"""One recording scored step by step, in pieces and at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.detector import Detector, Scores


def same_in_pieces(detector: Detector, site: str, values: np.ndarray, pieces: Sequence[int]) -> Scores:
    """The scores of raw values float[N, F] at once, which have to be those of single steps and of pieces of these sizes, as has the state behind them."""
    whole, end = detector.stream(site, values, None)
    for sizes in ([1] * len(values), pieces):
        assert sum(sizes) == len(values)
        state, found, at = None, [], 0
        for size in sizes:
            scores, state = detector.stream(site, values[at : at + size], state)
            found.append(scores)
            at += size
        for name, nearly in (("score", 0.0), ("threshold", 0.0), ("contribution", 1e-5)):
            joined = np.concatenate([getattr(each, name) for each in found])
            np.testing.assert_allclose(joined, getattr(whole, name), rtol=1e-4, atol=nearly)
        for name, value in end.items():
            np.testing.assert_allclose(state[name], value, rtol=1e-4, atol=1e-5)
    return whole
