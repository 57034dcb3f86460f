"""`fedplant broker`: a real Apache Kafka on this machine, without Docker and without installing Java."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import print_json, say, show
from pipeline.cli.options import AsJson

app = typer.Typer(help="Start, stop and look at the embedded Apache Kafka broker.", no_args_is_help=True)

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="The broker's data folder; default under the user's cache directory."),
]


@app.command()
def start(
    data_dir: DataDir = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Port to listen on; default: a free one."),
    ] = None,
    detach: Annotated[
        bool,
        typer.Option("--detach", help="Give the prompt back; the broker runs until `fedplant broker stop`."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start the broker and keep it running until Ctrl-C, `fedplant broker stop`, or the end of this process."""
    from ingestion.broker import default_data_dir, run_foreground, start_detached

    folder = data_dir or default_data_dir()
    if detach:
        state = start_detached(folder, port=port, on_message=say)
        if as_json:
            print_json({"bootstrap": state.bootstrap, "pid": state.pid, "data_dir": str(folder)})
        else:
            show(
                f"Kafka is ready at {state.bootstrap} (pid {state.pid}); stop it with `fedplant broker stop`."
            )
        return

    def ready(bootstrap: str, pid: int) -> None:
        if as_json:
            print_json({"bootstrap": bootstrap, "pid": pid, "data_dir": str(folder)})
        else:
            show(f"Kafka is ready at {bootstrap} (pid {pid}); Ctrl-C or `fedplant broker stop` ends it.")

    run_foreground(folder, port=port, on_message=say, on_ready=ready)


@app.command()
def stop(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Stop the broker of a data folder; nothing running is not an error."""
    from ingestion.broker import default_data_dir
    from ingestion.broker import stop as stop_broker

    folder = data_dir or default_data_dir()
    stopped = stop_broker(folder)
    if as_json:
        print_json({"stopped": stopped, "data_dir": str(folder)})
    else:
        show("Kafka is stopped." if stopped else f"No broker was running on {folder}.")


@app.command()
def status(data_dir: DataDir = None, as_json: AsJson = False) -> int:
    """Whether the broker of a data folder runs, where, and where its log is. Ends with 0 if it runs, else 3."""
    from ingestion.broker import default_data_dir
    from ingestion.broker import status as broker_status

    folder = data_dir or default_data_dir()
    state = broker_status(folder)
    if as_json:
        fields = {"bootstrap": state.bootstrap, "pid": state.pid, "log": str(state.log_path)} if state else {}
        print_json({"running": state is not None, "data_dir": str(folder), **fields})
    elif state:
        show(f"Kafka runs at {state.bootstrap} (pid {state.pid}), log {state.log_path}")
    else:
        show(f"No broker runs on {folder}; `fedplant broker start` starts one.")
    return 0 if state else 3
