"""Options and set-up of what long-running commands show to the outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import log_json

if TYPE_CHECKING:
    from pipeline.config import Config

MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port", min=0, max=65535, help="Serve Prometheus metrics on this port; 0: any free one."
    ),
]
LogJson = Annotated[
    bool,
    typer.Option("--log-json", help="Write JSON lines instead of text and progress bars to standard error."),
]


def monitor(config: Config, port: int | None, as_lines: bool) -> None:
    """Begin structured logs and serve metrics, as options or configuration ask. Raises ConfigError if the port is taken."""
    chosen = config.monitoring
    if as_lines or chosen.log_json:
        log_json()
    wanted = chosen.metrics_port if port is None else port
    if wanted is not None:
        from pipeline.cli.console import say
        from pipeline.monitoring.metrics import serve

        say(f"metrics at http://{chosen.metrics_address}:{serve(wanted, chosen.metrics_address)}/metrics")
