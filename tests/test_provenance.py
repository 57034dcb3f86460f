import subprocess
from pathlib import Path

from benchmarks.provenance import code, command, digest, made_with


def test_a_result_says_which_call_it_is_of_without_what_is_of_this_machine(tmp_path: Path):
    called = [
        str(tmp_path / "detection.py"),
        "--data",
        str(tmp_path),
        "--sets",
        "smd",
        "--seeds",
        "3",
        "--work",
        "a/b",
    ]
    assert command(called) == "python benchmarks/detection.py --data DIR --sets smd --seeds 3 --work DIR"
    made = made_with(called)
    assert {"command", "code", "data", "versions", "machine"} == set(made)
    assert str(tmp_path) not in str(made)
    assert made_with(called, beside={"torch": "2.1"})["versions"] == {**made["versions"], "torch": "2.1"}
    assert "data" not in made_with(called[:1]) and "data" not in made_with([*called[:1], "--data"])


def test_a_result_says_of_which_commit_it_is_and_that_something_was_changed(tmp_path: Path):
    assert code(tmp_path) is None

    def git(*asked: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *who, *asked], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "one.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "v1")
    commit = git("rev-parse", "HEAD")[:12]
    assert code(tmp_path) == commit
    (tmp_path / "one.py").write_text("2")
    assert code(tmp_path) == f"{commit}-dirty"


def test_another_edition_of_the_data_is_told(tmp_path: Path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "one.csv").write_text("1,2")
    first = digest(tmp_path)
    assert first == digest(tmp_path)
    (tmp_path / "set" / "one.csv").write_text("1,2,3")
    assert digest(tmp_path) != first
