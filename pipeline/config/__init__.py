"""The one TOML file a user writes: its keys, their checks, and how it is read.

`load_config`, and for site files `file_config`, are the only ways in; `schema` names every key, `reference` renders them as documentation.
"""

from pipeline.config.load import file_config, load_config
from pipeline.config.schema import Config, SiteConfig

__all__ = ["Config", "SiteConfig", "file_config", "load_config"]
