"""Whether enough sites can train for what is asked of them together; known before anything is trained."""

from __future__ import annotations

from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.federation.rules import check_number


def refuse_too_few(config: Config, sites: int) -> None:
    """Refuse more groups than there are sites that can train, and an aggregation that cannot tell a bad one apart among them.

    Raises:
      ConfigError: there are too few.
    """
    if config.training.clusters > sites:
        raise ConfigError(
            f"training.clusters = {config.training.clusters}: expected 1 to {sites}, the number of sites that can train"
        )
    if "network" in config.detector.sources:
        check_number(config.training.settings(config.model.steps), sites)
