"""The one TOML file a user writes: its keys, their checks, and how it is read.

`load_config`, and for site files `file_config`, are the only ways in. Each table of the file is in the module of its name; `schema` puts
them together, `reference` renders them as documentation.
"""

from pipeline.config.load import file_config, load_config, named_sites
from pipeline.config.schema import Config
from pipeline.config.sites import SiteConfig

__all__ = ["Config", "SiteConfig", "file_config", "load_config", "named_sites"]
