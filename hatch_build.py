"""Compiles `ingestion/native/messages.c` when the package is built or installed for development; without a C compiler it is left out."""

import hashlib
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE, TARGET = "ingestion/native/messages.c", "ingestion/native/messages.so"


class CompileMessages(BuildHookInterface):  # type: ignore[type-arg]
    """Called by hatchling for every wheel, an editable one too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile beside the source; a wheel that holds the outcome is one of this platform."""
        source, target = Path(self.root, SOURCE), Path(self.root, TARGET)
        found = (shutil.which(name) for name in (os.environ.get("CC") or "cc", "gcc", "clang"))
        compiler = next((path for path in found if path), None)
        if compiler is None:
            self.app.display_warning("no C compiler: FedPlant reads JSON more slowly")
            return
        # By the digest a library of another source is known, and not used.
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        fresh = target.with_suffix(f".{os.getpid()}")
        command = [compiler, "-O3", "-shared", "-fPIC", f'-DSOURCE="{digest}"', "-o", fresh, source]
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=300)
            fresh.replace(target)
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or b"")[-500:].decode("utf-8", "replace")
            self.app.display_warning(f"FedPlant reads JSON more slowly: {error} {said}")
            return
        finally:
            fresh.unlink(missing_ok=True)
        build_data["artifacts"].append(TARGET)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
