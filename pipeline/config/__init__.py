"""The one TOML file a user writes: its keys, their checks, and how it is read.

`load_config` is the only way in; `schema` names every key, `reference` renders them as documentation.
"""

from pipeline.config.load import load_config
from pipeline.config.schema import Config, SiteConfig

__all__ = ["Config", "SiteConfig", "load_config"]
