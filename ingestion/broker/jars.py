"""Apache Kafka's jars: resolved once per machine, shared by every data folder, verified before each use.

Source of the jars: `jgo` (Maven coordinates, pure Python). They lie in `<cache>/kafka-<version>/`; the file `jars.json` in it
is written last, so a folder without it is an unfinished resolve and is done again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ingestion.broker.properties import KAFKA_VERSION
from ingestion.errors import BrokerStartFailed

RESOLVE_SECONDS = 600
_INDEX = "jars.json"

# Kafka and its log binding are resolved apart: together, the binding's dependency management replaces kafka-clients
# and snappy with older releases.
_ENDPOINTS = {
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}": "",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3": "log4j-slf4j-impl",
}
_RESOLVE = """
import json, sys
from pathlib import Path
import jgo
env = jgo.build(sys.argv[1], cache_dir=Path(sys.argv[2]))
print("JARS " + json.dumps([str(jar) for jar in env.all_jars]))
"""


def cache_root() -> Path:
    """The folder for jars and the default broker: `$FEDPLANT_CACHE`, else the user's cache directory of this system."""
    chosen = os.environ.get("FEDPLANT_CACHE")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("fedplant"))


def kafka_home(on_message: Callable[[str], None], root: Path | None = None) -> Path:
    """The folder that holds the jars, resolving them first if they are not there.

    Two processes may call this at once: one resolves, the other waits and uses the result.

    Raises:
        BrokerStartFailed: the jars cannot be resolved (no registry, no space, folder not writable) or `RESOLVE_SECONDS` passed.
    """
    home = (root or cache_root()) / f"kafka-{KAFKA_VERSION}"
    if _complete(home):
        return home
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _exclusive(home / "resolve.lock"):
            if not _complete(home):
                on_message(
                    f"resolving Apache Kafka {KAFKA_VERSION}, first time only (about 100 MB, 15-60 s) into {home}"
                )
                _resolve(home)
    except OSError as error:
        raise BrokerStartFailed(
            f"cannot write Apache Kafka's jars to {home}: {error.strerror or error}; "
            "free space there or set FEDPLANT_CACHE to another folder"
        ) from error
    return home


def classpath(home: Path) -> str:
    """The `-cp` argument for the JVM: every jar of `home`, in a fixed order."""
    names = json.loads((home / _INDEX).read_text())
    return os.pathsep.join(str(home / name) for name in names)


def _complete(home: Path) -> bool:
    try:
        sizes = json.loads((home / _INDEX).read_text())
        return all((home / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _resolve(home: Path) -> None:
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=home, prefix="resolving-") as scratch:
        for endpoint, only in _ENDPOINTS.items():
            for jar in _run_jgo(endpoint, Path(scratch)):
                if jar.name.startswith(only):
                    shutil.copyfile(jar, home / jar.name)
                    sizes[jar.name] = jar.stat().st_size
    index = home / f"{_INDEX}.new"
    index.write_text(json.dumps(dict(sorted(sizes.items())), indent=1))
    index.replace(home / _INDEX)


def _run_jgo(endpoint: str, scratch: Path) -> list[Path]:
    # In a process of its own: it can be given a time limit, and its import costs nothing once the jars are there.
    hint = "check the network or proxy to the Maven repository, or copy the folder from a machine that has it"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _RESOLVE, endpoint, str(scratch)],
            capture_output=True,
            text=True,
            timeout=RESOLVE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BrokerStartFailed(
            f"resolving {endpoint} took longer than {RESOLVE_SECONDS} s; {hint}"
        ) from error
    for line in done.stdout.splitlines():
        if line.startswith("JARS "):
            return [Path(jar) for jar in json.loads(line[5:])]
    reason = next(
        (line for line in reversed(done.stderr.splitlines()) if line.strip()), f"exit {done.returncode}"
    )
    raise BrokerStartFailed(f"cannot resolve {endpoint}: {reason.strip()[:300]}; {hint}")
