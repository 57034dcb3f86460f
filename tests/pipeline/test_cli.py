"""The command line as a user meets it: speed, help, exit codes, one clear line."""

import errno
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from ingestion.layout import Layout
from pipeline.cli.console import bar
from pipeline.cli.main import run
from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.streams.plants import replay_folder
from tests.pipeline.plants import plant, write_plants
from tests.waiting import HANGS

COMMAND = [str(Path(sys.executable).parent / "fedplant")]


def test_help_answers_at_once_because_nothing_heavy_is_imported():
    code = "import sys, pipeline.cli.main; print([m for m in ('tensorflow', 'pyarrow', 'pandas', 'kafka', 'pydantic', 'rich.console') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_what_a_command_imported_is_not_looked_through_for_garbage_at_its_end():
    code = "import atexit, gc, sys; sys.argv = ['fedplant', '--help']; from pipeline.cli import main; "
    code += "atexit.register(lambda: print(gc.get_freeze_count() > 0)); main()"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "True"


def test_help_lists_every_command():
    text = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    listed = [line.split()[0] for line in text.split("Commands:")[1].splitlines() if line.strip()]
    assert set(listed) >= {
        "demo",
        "run",
        "replay",
        "ingest",
        "score",
        "report",
        "backtest",
        "doctor",
        "init",
        "inspect",
        "broker",
    }


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["run", "none.toml"], 2, "none.toml: no such file; `fedplant init` writes one"),
        (["run"], 2, "Missing argument 'CONFIG'"),
        (["rnu"], 2, "No such command 'rnu'. Did you mean 'run'?"),
        (["run", "x.toml", "--every", "0s"], 2, "'0s': at least a second"),
        (["ingest", "x.toml", "--bootstrap", "kafka"], 2, "'kafka' is not HOST:PORT"),
        (["ingest", "x.toml", "--bootstrap", "a:1,b:99999"], 2, "'b:99999' is not HOST:PORT"),
        (["tune", "x.toml", "--budget", "0s"], 2, "'0s': at least a second"),
        (["inspect", "t", "--time-zone", "Mars/Base"], 2, "'Mars/Base' is no time zone; write it as Europe"),
        (
            ["inspect", "", "--bootstrap", "kafka:9092"],
            2,
            "'' is no topic: names are 1 to 249 letters, digits",
        ),
        (["run", "x.toml", "--every", "6 weeks"], 2, "unit 'weeks' is not known"),
        (["run", "x.toml", "--every", "1000000000d"], 2, "'1000000000d': longer than 36500d"),
        (["replay", "nowhere", "--speed", "warp"], 2, "--speed warp: write `max` or a positive factor"),
        (
            ["backtest", "--data", "nowhere", "--train-until", "noon"],
            2,
            "--train-until: 'noon': not a time; write it as 2026-03-01T06:00:00Z",
        ),
        (["backtest", "--data", "nowhere", "--train-until", "20260101"], 2, "'20260101': not a time; write"),
        (["backtest", "--data", "nowhere", "--train-until", "1700000000"], 2, "'1700000000': not a time; "),
        (["backtest", "--data", "nowhere", "--train-until", "nan"], 2, "'nan': not a time; write it as"),
        (["replay", "nowhere", "--from", "20260101"], 2, "--from: '20260101': not a time; write it as"),
        (["replay", "nowhere", "--until", "1700000000"], 2, "--until: '1700000000': not a time; write it as"),
        (["replay", "nowhere", "--until", "9999-12-31T23:00-05:00"], 2, "': outside of the calendar"),
        (["backtest", "--data", "nowhere", "--train-until", "2026-01-01"], 5, "nowhere"),
        (
            ["backtest", "--data", ".", "--train-until", "2026-01-01", "--time-format", "%Q"],
            2,
            "--time-format: '%Q': 'Q' is a bad directive in format '%Q'; write it as '%d/%m/%Y %H:%M'",
        ),
        (["doctor", "none.toml"], 12, ""),
        (["init", "x.toml", "--site", "a", "--site", "b", "--site", "a"], 2, "site 'a' is named twice"),
        (["init", "x.toml", "--bootstrap", "a"], 2, "kafka.plant.example:9092. See `"),
    ],
)
def test_a_mistake_gives_one_clear_line_and_its_exit_code(
    arguments, code, line, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == code
    error = capfd.readouterr().err
    assert line in error
    assert "Traceback" not in error


def test_a_failure_is_also_an_object_for_machines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["run", "none.toml", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


def test_a_step_that_came_to_no_end_is_not_drawn_as_one_that_still_turns(capfd):
    with bar("reading"):
        pass
    with pytest.raises(ValueError, match="no such file"), bar("sending"):
        raise ValueError("no such file")
    done, stopped = capfd.readouterr().err.splitlines()
    assert done.startswith("✓ reading") and stopped.startswith("✗ sending")


# A limit on file size refuses writes as a full disk does, and needs no rights.
_WRITES = {
    "python": "Path('x').write_text('x' * 2000)",
    "arrow": "import pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.table({'a': range(2000)}), 'x')",
    "tensorflow": "import tensorflow as tf; tf.io.write_file('x', 'x' * 2000)",
}
_LIMITED = """
import resource, signal, sys
from pathlib import Path
import pipeline.config
from pipeline.cli.main import run
def fails(*_):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    exec(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
pipeline.config.load_config = fails
sys.exit(run(["compact", "plant.toml"]))
"""


@pytest.mark.parametrize("library", _WRITES)
def test_a_disk_that_takes_no_more_is_one_line_with_what_to_do_whichever_library_wrote(tmp_path, library):
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, _WRITES[library]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 6, done.stderr
    assert "File too large" in line and "free space and run the command again" in line
    assert "unexpected" not in line and "Traceback" not in done.stderr


def test_too_many_open_files_are_told_with_the_limit_and_not_with_the_file_that_came_last(
    monkeypatch, capsys
):
    def fails(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/site-packages/rich/__init__.py")

    monkeypatch.setattr("pipeline.config.load_config", fails)
    assert run(["compact", "plant.toml"]) == 6
    told = capsys.readouterr().err
    assert "Too many open files; this process may open " in told and "`ulimit -n`" in told
    assert "rich" not in told


def test_an_interrupted_command_says_so(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.config.load_config", interrupted)
    assert run(["compact", "plant.toml", "--json"]) == 130
    out, err = capsys.readouterr()
    assert err == "fedplant: interrupted\n"
    assert json.loads(out) == {"error": "interrupted", "exit_code": 130}


def test_init_writes_a_file_that_the_checks_accept_and_never_overwrites(tmp_path, capsys):
    path = tmp_path / "plant.toml"
    assert run(["init", str(path), "--site", "press-1", "--bootstrap", "kafka:9092"]) == 0
    assert f"`fedplant doctor {path}`" in path.read_text()
    assert run(["config", "show", str(path)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["kafka"]["bootstrap"] == "kafka:9092"
    assert [site["name"] for site in shown["sites"]] == ["press-1"]
    assert run(["init", str(path)]) == 2
    assert "exists already and is left as it is" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys):
    assert run(["version"]) == 0
    assert "confluent-kafka 2." in capsys.readouterr().out
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"fedplant {metadata.version('fedplant')}\n"


def test_a_broken_pipe_ends_quietly():
    process = subprocess.Popen(
        [*COMMAND, "config", "reference"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=HANGS) == 141


def test_a_replay_goes_to_the_embedded_broker_that_its_configuration_names(tmp_path, monkeypatch, capsys):
    """And not to one that runs in the usual folder, where nobody would look for it."""
    import ingestion.broker
    import ingestion.replay

    sent = []
    own = tmp_path / "broker"
    monkeypatch.setattr(
        ingestion.broker,
        "status",
        lambda folder: SimpleNamespace(bootstrap="own:9092" if folder == own else "usual:9092"),
    )
    monkeypatch.setattr(ingestion.replay, "replay", lambda _, bootstrap, **rest: sent.append(bootstrap))
    config = tmp_path / "plant.toml"
    config.write_text('[kafka]\nembedded_dir = "broker"\n[[sites]]\nname = "east"\n')
    settings = load_config(config)
    options = {"layout": Layout(), "speed": None, "start": None, "end": None, "sites": None}
    options |= {"processes": "one", "dry_run": False, "say": print, "progress": print}
    folder = write_plants(tmp_path / "data", {"east": plant(1)})
    replay_folder(folder, config=settings, bootstrap=None, **options)
    replay_folder(folder, config=settings, bootstrap="named:9092", **options)
    replay_folder(folder, config=None, bootstrap=None, **options)
    assert sent == ["own:9092", "named:9092", "usual:9092"]
    monkeypatch.setattr(ingestion.broker, "status", lambda folder: None)
    with pytest.raises(ConfigError, match=f"--data-dir {own}"):
        replay_folder(folder, config=settings, bootstrap=None, **options)
