"""Every decoder against inputs that are bred for the branches they reach (libFuzzer, by atheris).

    python benchmarks/fuzz.py SECONDS [--format flat ...] [--finds DIR] [--json]

spends so many seconds on each decoder, each in a process of its own, and prints what was run and found; exit code 1 if anything
was. Atheris is laid over this environment by `uv run --with`, only for that process. An input is up to eight messages between good
neighbours, read by a fresh decoder, and must end within 2 s and 1.5 GB with no exception, each message in exactly one place,
readings that are valid and finite, and neighbours that are read (but by `auto`, which may choose another format than theirs). Flat and narrow JSON must besides come out of columns as
message by message. It begins with the messages of `decoding.py`. What is found is kept in `--finds`, one file an input.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.command import command_line

ATHERIS = "atheris==3.0.0"
FORMATS = ("flat", "narrow", "csv", "sparkplug", "opcua", "uns", "edgex", "avro", "auto")
LABELS = {"sparkplug": ("sparkplug_protobuf", "sparkplug_json")}
BETWEEN = b"\x1e\x1e"
MOST, LONGEST = 8, 16_384
SECONDS, MEGABYTES = 2.0, 1500
KEYS = (
    "",
    "pump",
    "spBv1.0/G/DBIRTH/E/D",
    "spBv1.0/G/DDATA/E/D",
    "spBv1.0/G/NDATA/E",
    "spBv1.0/G/DDEATH/E/D",
    "umh.v1.acme.plant.press._historian.t",
    "../../etc",
)
WORDS = (
    "null",
    "true",
    "NaN",
    "Infinity",
    "1e999",
    "-0",
    "2026-03-01T10:00:00Z",
    "1733904005123",
    r"\\ud800",
)
Figures = dict[str, Any]


class Found(AssertionError):
    """A promise that did not hold."""


def seeds(form: str) -> list[bytes]:
    """Inputs to begin with: messages alone, three behind each other, three in a list, and little ones."""
    from benchmarks import decoding

    labels = LABELS.get(form, (form,)) if form != "auto" else tuple(decoding.FORMATS)
    inputs = []
    for label in labels:
        made = [decoding.FORMATS[label][1](i) for i in (0, 45, 77)]
        key = KEYS.index("umh.v1.acme.plant.press._historian.t") if label == "uns" else 3 * ("spark" in label)
        values = [value for _, value in made]
        listed = b"[" + b",".join(values) + b"]"
        inputs += [bytes([key]) + value for value in (*values, BETWEEN.join(values), listed)]
    return inputs + [b"\0" + value for value in (b"", b"{}", b"[]", b"null", b'{"t":1}', b'[{"t":"1"}]')]


def good(form: str) -> tuple[str, bytes]:
    """Key and value of a message that is read whatever lies beside it."""
    from benchmarks import decoding

    if form == "sparkplug":
        key, value = decoding.FORMATS["sparkplug_json"][1](0)
        return key, value
    return decoding.FORMATS["flat" if form == "auto" else form][1](0)


def batch_of(form: str, data: bytes) -> Any:
    """The messages in `data`, whose first byte chooses their key, between two good ones."""
    import numpy as np

    from ingestion.records import RecordBatch

    key = KEYS[data[0] % len(KEYS)] if data else ""
    pairs = [good(form), *((key, value) for value in data[1:].split(BETWEEN, MOST - 1)), good(form)]
    size = len(pairs)
    keys = [name.encode() or None for name, _ in pairs]
    values: list[bytes | None] = [value for _, value in pairs]
    offsets = np.arange(size, dtype=np.int64)
    return RecordBatch("s", "t", 0, offsets, np.full(size, 1_790_000_000_000), keys, values, size)


def check(form: str, folder: Path, data: bytes) -> None:
    """Decode one input by a fresh decoder. Raises Found, and whatever the decoder does."""
    import numpy as np

    from ingestion.decode import build_decoder
    from ingestion.settings import DecodeRules, IngestSettings, Site

    for memory in folder.glob("decoders/*/*/*"):
        memory.unlink()
    rules = DecodeRules(format=form, schema_registry=str(folder))
    settings = IngestSettings((Site("s"),), "-", folder, decode=rules)
    batch, began = batch_of(form, data), time.process_time()
    found = build_decoder(settings).decode(batch)
    if time.process_time() - began > SECONDS:
        raise Found(f"{time.process_time() - began:.1f} s")
    kept = found.readings.column("offset").to_pylist()
    refused = [reject.index for reject in found.rejects]
    if kept != sorted(kept) or refused != sorted(set(refused)) or set(kept) & set(refused):
        raise Found("out of order, or in two places")
    if set(kept) | set(refused) != set(range(len(batch.values))):
        raise Found("a message is in no place")
    # `auto` may rightly take the format of the messages between its neighbours.
    if form != "auto" and not {0, len(batch.values) - 1} <= set(kept):
        raise Found("a good neighbour was refused")
    if any(not r.reason or not r.message or r.reason == "decoder_failed" for r in found.rejects):
        raise Found(f"refused without a reason: {found.rejects}")
    found.readings.validate(full=True)
    for name in found.readings.column_names[5:]:
        values = found.readings.column(name).drop_null().to_numpy()
        if not np.isfinite(values).all():
            raise Found(f"{name!r} is not finite")
    if form in ("flat", "narrow"):
        _compare(build_decoder(settings), batch, found)


def _compare(reader: Any, batch: Any, found: Any) -> None:
    """Raises Found if message by message it comes out otherwise than `found`."""
    import numpy as np

    from ingestion.decode.flat import FlatJson
    from ingestion.decode.messages import MessageDecoder

    if isinstance(reader, FlatJson):
        literal = reader._one_by_one(np.arange(len(batch.values)), batch)
    else:
        literal = MessageDecoder.decode(reader, batch)
    told = [
        (
            [sorted((n, v) for n, v in row.items() if v is not None) for row in each.readings.to_pylist()],
            sorted((r.index, r.reason) for r in each.rejects),
            {name: count for name, count in each.counts.items() if count},
        )
        for each in (found, literal)
    ]
    if told[0] != told[1]:
        raise Found(f"in columns {told[0]}, one by one {told[1]}")


def child(form: str, seconds: int, corpus: str, finds: str) -> None:
    """Fuzz one decoder; libFuzzer ends the process."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["ingestion.decode", "ingestion.eventtime"]):
        for name in ("auto", "avro", "csvlines", "edgex", "narrow", "opcua", "sparkplug", "uns"):
            import_module(f"ingestion.decode.{name}")
    from benchmarks.decoding import SCHEMA

    folder = Path(corpus, "data")
    folder.mkdir()
    (folder / "1.avsc").write_text(json.dumps(SCHEMA))
    inputs, words = Path(corpus, "inputs"), set(WORDS)
    inputs.mkdir()
    for number, seed in enumerate(seeds(form)):
        (inputs / str(number)).write_bytes(seed)
        words |= {word.decode() for word in re.findall(rb"[A-Za-z_]{2,40}", seed)}
    Path(corpus, "words").write_text("\n".join(f'"{word}"' for word in sorted(words)))
    options = {
        "max_total_time": seconds,
        "max_len": LONGEST,
        "timeout": 20,
        "rss_limit_mb": MEGABYTES,
        "dict": Path(corpus, "words"),
        "artifact_prefix": f"{finds}/{form}-",
        "print_final_stats": 1,
    }
    arguments = [sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(inputs)]
    atheris.Setup(arguments, lambda data: check(form, folder, data))
    atheris.Fuzz()


def fuzz(form: str, seconds: int, finds: Path) -> Figures:
    """Run one decoder's process."""
    before = set(finds.glob(f"{form}-*"))
    # In memory where that is to be had: births are written and synced for every input.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as corpus:
        command = ["uv", "run", "--with", ATHERIS, "python", __file__, str(seconds), "--child", form]
        command += ["--corpus", corpus, "--finds", str(finds)]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds + 600
        )
        kept = len(list(Path(corpus, "inputs").iterdir()))
    said = done.stdout + done.stderr
    ran = re.findall(r"number_of_executed_units:\s*(\d+)", said) or re.findall(r"^#(\d+)", said, re.MULTILINE)
    memory = re.findall(r"peak_rss_mb:\s*(\d+)", said)
    new = sorted(path.name for path in set(finds.glob(f"{form}-*")) - before)
    if done.returncode and not new:
        raise SystemExit(said[-3000:])
    raised = re.findall(r"^\s*(?:=== Uncaught Python exception: ===\s*)(.*(?:\n.*){0,3})", said, re.MULTILINE)
    return {
        "inputs": int(ran[-1]) if ran else 0,
        "kept": kept,
        "peak_rss_mb": int(memory[-1]) if memory else None,
        "found": new,
        "raised": raised[0][:2000] if raised else None,
    }


def main() -> None:
    """Parse arguments, fuzz, print."""
    parser = command_line(__doc__)
    parser.add_argument("seconds", type=int, help="for each decoder")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--finds", type=Path, default=Path("fuzz-finds"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        child(asked.child, asked.seconds, asked.corpus, str(asked.finds))
        return
    asked.finds.mkdir(parents=True, exist_ok=True)
    results = {}
    for form in asked.format:
        results[form] = fuzz(form, asked.seconds, asked.finds.resolve())
        if not asked.json:
            print(f"{form:10} {results[form]}", flush=True)
    if asked.json:
        print(json.dumps({"seconds": asked.seconds, "formats": results}))
    raise SystemExit(any(result["found"] for result in results.values()))


if __name__ == "__main__":
    main()
