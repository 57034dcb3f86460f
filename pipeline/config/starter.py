"""The configuration that `fedplant init` writes: short, commented, and accepted by the same checks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.names import NAME, NAME_RULE
from pipeline.errors import ConfigError
from pipeline.remarks import printable


def starter(sites: Sequence[str], bootstrap: str, file: str = "fedplant.toml") -> str:
    """TOML text for these sites and this cluster, to be written to `file`.

    Raises:
      ConfigError: a site's name cannot be used or comes twice, or the cluster's address would not fit on one line.
    """
    for number, name in enumerate(sites):
        if not NAME.match(name):
            raise ConfigError(f"site {name!r}: a name is {NAME_RULE}")
        if name in sites[:number]:
            raise ConfigError(f"site {name!r} is named twice; give each plant its own name")
    if any(character in bootstrap for character in '"\\\n\r'):
        raise ConfigError(f"bootstrap {bootstrap!r}: expected host:port[,host:port]")
    blocks = "\n".join(f'[[sites]]\nname = "{name}"\ntopic = "iiot.{name}.telemetry.v1"\n' for name in sites)
    return f"""# FedPlant. Every key: `fedplant config reference`. Check this file: `fedplant doctor {printable(file, keep="")}`.

[project]
name = "fleet"
data_dir = "fedplant-data"

[kafka]
bootstrap = "{bootstrap}"          # or "embedded" for a broker that FedPlant starts itself

{blocks}
[ingestion]
format = "auto"                    # what messages look like; see what `fedplant inspect TOPIC` says
window = "1min"                    # length of a window file; longer for slow sensors: some 100 readings a window
out_of_orderness = "10s"           # readings may be this much out of order before they count as late
allowed_lateness = "1d"            # late readings up to this age are kept as addenda

[dataset]
step = "auto"                      # grid of the readings; "auto" takes the median spacing of a sensor

[training]
rounds = 20
"""


def write_starter(path: Path, sites: Sequence[str], bootstrap: str) -> None:
    """Write the starter file.

    Raises:
      ConfigError: the file exists already or cannot be written.
    """
    write_new(path, starter(sites, bootstrap, str(path)))


def write_new(path: Path, text: str) -> None:
    """Write a configuration where there is none yet.

    Raises:
      ConfigError: the file exists already or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise ConfigError(f"{path} exists already and is left as it is; name another file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
