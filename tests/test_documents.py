"""What the documents say must hold: links lead somewhere, commands exist, docstring examples are true."""

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.main import run
from pipeline.config import load_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "docker").glob("*.md"))]
ROOMS = ("ingestion", "models", "pipeline")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_project_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (page.parent / link).exists()] == []


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as the forges make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    titles = (
        re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"^#+ (.*)$", text, re.M)
    )
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_heading_that_a_link_names_is_there(page):
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text())
    inside = [(page.parent / path if path else page, name) for path, name in links if "://" not in path]
    assert [(path, name) for path, name in inside if name not in anchors(path)] == []


def test_every_page_that_code_names_is_there():
    missing = []
    for folder in (*ROOMS, "benchmarks", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for page, _, heading in re.findall(r"\b(docs/[\w./-]+\.md)(#([\w-]+))?", path.read_text()):
                target = ROOT / page
                if not target.exists() or (heading and heading not in anchors(target)):
                    missing.append((str(path.relative_to(ROOT)), page, heading))
    assert missing == []


def test_every_decision_stands_in_the_index_under_its_title():
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"^\| \[(\d+)\]\((\S+)\) \| (.*?) \|", (folder / "README.md").read_text(), re.M)
    written = [path for path in sorted(folder.glob("*.md")) if path.name != "README.md"]
    assert [(f"# {number}. {title}", name) for number, name, title in listed] == [
        (path.read_text().splitlines()[0], path.name) for path in written
    ]
    assert [int(number) for number, _, _ in listed] == [int(path.name[:4]) for path in written]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_names_exists(page, capsys):
    named = set(re.findall(r"fedplant ((?:broker|config) [a-z]+|[a-z]+)\b", page.read_text()))
    known = {
        "demo",
        "run",
        "tune",
        "replay",
        "ingest",
        "audit",
        "compact",
        "status",
        "score",
        "report",
        "backtest",
        "doctor",
        "init",
        "inspect",
        "version",
    }
    asked = {name for name in named if name.split()[0] in known | {"broker", "config"}}
    assert named - asked <= {"broker", "config"}, "a command that does not exist"
    for name in asked:
        assert run([*name.split(), "--help"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_of_a_command_that_a_page_shows_exists(page, capsys):
    code = "\n".join(
        re.findall(r"^(?: {4}|\t).*|^```(?:sh|bash|console)?\n.*?^```", page.read_text(), re.M | re.S)
    )
    typed = re.findall(r"(?:^|[\s$])(?:uv run )?fedplant ((?:[^\n\\#]|\\\n)*)", code)
    for command in typed:
        words = command.replace("\\\n", " ").split()
        name = words[:2] if words[0] in ("broker", "config") else words[:1]
        wanted = {word.split("=")[0] for word in words if word.startswith("--")}
        if not wanted:
            continue
        assert run([*name, "--help"]) == 0
        known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
        assert wanted <= known, command
    capsys.readouterr()


def test_every_command_of_the_compose_file_exists_and_finds_its_files(capsys):
    lists = re.findall(r"^    command: \[(.*)\]$", (ROOT / "docker" / "compose.yaml").read_text(), re.M)
    assert len(lists) >= 6
    for typed in lists:
        words = [word.strip().strip('"') for word in typed.split(",")]
        if words == ["--help"]:
            continue
        assert run([words[0], "--help"]) == 0
        known = capsys.readouterr().out
        assert [word for word in words if word.startswith("--") and word not in known] == []
        inside = [word.removeprefix("/app/") for word in words if word.startswith("/app/")]
        assert [path for path in inside if not (ROOT / path).exists()] == []
        if "--site" in words:
            assert (ROOT / inside[0] / f"{words[words.index('--site') + 1]}.parquet").exists()


def settings_shown():
    for page in PAGES:
        for number, block in enumerate(re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.M | re.S), 1):
            yield pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize("block", list(settings_shown()))
def test_every_configuration_that_a_page_shows_is_accepted(block, tmp_path):
    path = tmp_path / "fedplant.toml"
    path.write_text(block if "[[sites]]" in block else block + '\n[[sites]]\nname = "plant-a"\n')
    assert load_config(path).sites


BENCHMARKS = [p for p in sorted((ROOT / "benchmarks").glob("*.py")) if "parse_args(" in p.read_text()]


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_every_benchmark_starts_as_its_page_says(path, tmp_path):
    asked = subprocess.run(
        [sys.executable, str(path), "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (asked.returncode, "usage:" in asked.stdout) == (0, True), asked.stderr


def modules_with_examples():
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if ">>> " in path.read_text():
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_docstring_examples_are_true(name):
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0 and outcome.failed == 0


def test_no_page_names_a_package_registry_or_a_path_of_a_machine():
    hosts = re.compile(
        r"https?://[a-z0-9.-]*(pypi|pythonhosted|maven|npmjs|crates|debian)[a-z0-9.-]*\.[a-z]+"
    )
    for page in PAGES:
        assert not hosts.search(page.read_text()), page
