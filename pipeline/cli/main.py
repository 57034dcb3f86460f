"""Entry point: assembles the commands and turns every failure into one clear line and a documented exit code."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
from typing import Annotated, Any

import typer

from pipeline.cli import broker, check, data, job, look, results
from pipeline.cli.console import failed
from pipeline.cli.storage import storage_line
from pipeline.interrupt import remembered

app = typer.Typer(
    name="fedplant",
    help="Plants learn one anomaly detector together from Kafka sensor streams; sites share sums, not readings.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_INTERRUPTED = 130


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"fedplant {version('fedplant')}")
        raise typer.Exit()


@app.callback()
def _all(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What holds for every command."""


for group in (job, data, look, results, check):
    group.register(app)
app.add_typer(broker.app, name="broker")
app.add_typer(check.config_app, name="config")


def main() -> None:
    """Run the command line and end the process with a documented exit code (docs/exit-codes.md)."""
    # A command imports half a million objects that stay to its end: looking through them once more when the interpreter takes itself apart
    # costs a second.
    atexit.register(gc.freeze)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for library in ("kafka", "tensorflow", "absl"):
        logging.getLogger(library).setLevel(logging.ERROR)
    # Ignored, as SIGINT is for what a shell starts in the background, one stays so.
    plain = (signal.default_int_handler, signal.SIG_DFL)
    heeded = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) in plain]
    with remembered(*heeded):
        code = run(sys.argv[1:])
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; failures are one or more lines on standard error.

    With `--json` a failure is also one JSON object `{"error", "exit_code"}` on standard output.
    """
    try:
        outcome = app(arguments, standalone_mode=False)
        if outcome == _INTERRUPTED:
            # What typer makes of Ctrl-C.
            return _fail("interrupted", _INTERRUPTED, arguments)
        return outcome if isinstance(outcome, int) else 0
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", _INTERRUPTED, arguments)
    except typer.Exit as error:
        return error.exit_code
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if hasattr(error, "format_message"):
            return _usage(error, arguments)
        if isinstance(code, int):
            return _fail(str(error), code, arguments)
        if line := storage_line(error):
            return _fail(line, 6, arguments)
        if os.environ.get("FEDPLANT_TRACEBACK"):
            raise
        hint = "set FEDPLANT_TRACEBACK=1 to see where, and please report it"
        return _fail(f"unexpected {type(error).__name__}: {error} ({hint})", 1, arguments)


def _usage(error: Any, arguments: list[str]) -> int:
    """A command typed wrongly: the reason and where to look; no command at all shows the help."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
        return 2
    command = context.command_path.replace("-c", "fedplant", 1) if context else "fedplant"
    reason = error.format_message()
    stop = "" if reason.endswith((".", "?")) else "."
    return _fail(f"{reason}{stop} See `{command} --help`.", 2, arguments)


def _fail(message: str, code: int, arguments: list[str]) -> int:
    failed(message, code)
    if "--json" in arguments:
        import json

        print(json.dumps({"error": message, "exit_code": code}))
    return code
