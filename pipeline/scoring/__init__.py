"""Live scoring: sensor topics in, alerts out, and the score files that the report reads.

`alerts`, `buffer` and `writer` import neither Kafka nor TensorFlow; `score` imports Kafka when it is first asked for and
TensorFlow when it loads a model.
"""

from typing import TYPE_CHECKING, Any

from pipeline.scoring.settings import ScoreReport, ScoreSettings, SiteScore

if TYPE_CHECKING:
    from pipeline.scoring.scorer import score

__all__ = ["ScoreReport", "ScoreSettings", "SiteScore", "score"]


def __getattr__(name: str) -> Any:
    if name == "score":
        from pipeline.scoring.scorer import score

        return score
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
