"""The `fedplant` command. Each file here is one group of commands; what they do is imported only when they run."""

from pipeline.cli.main import main

__all__ = ["main"]
