"""Avro schemas by id: from a folder with `<id>.avsc`, or a schema registry over HTTP with bounded time, size and cache.

A registry that does not answer ends the ingestion with an error; good messages are never refused for its outage.
"""

import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import fastavro
import orjson
from fastavro.schema import SchemaParseException, UnknownType

from ingestion.decode.rows import Refused
from ingestion.errors import BrokerUnavailable, InputDataError

_TIMEOUT = 5.0
_ATTEMPTS = 3
_MAX_BYTES = 1 << 20
_MAX_CACHED = 1000
_FORGET_UNKNOWN = 60.0


class Registry:
    """Parsed schemas of one partition's messages. Raises InputDataError if `source` is neither folder nor http(s) address."""

    def __init__(self, source: str) -> None:
        self._url = source.rstrip("/") if source.startswith(("http://", "https://")) else ""
        self._folder = Path(source)
        if not self._url and (not source or not self._folder.is_dir()):
            raise InputDataError(
                f"schema_registry = {source!r}: expected a folder with <id>.avsc files or an http(s) address"
            )
        self._known: dict[int, Any] = {}
        self._unknown: dict[int, float] = {}

    def schema(self, number: int) -> Any:
        """The parsed schema. Raises Refused (`unknown_schema`, `bad_schema`), BrokerUnavailable if the registry does not answer."""
        if number in self._known:
            return self._known[number]
        if self._unknown.get(number, 0.0) > time.monotonic():
            raise Refused("unknown_schema", f"schema id {number} is not registered")
        text = self._fetch(number) if self._url else self._read(number)
        if text is None:
            if len(self._unknown) >= _MAX_CACHED:
                self._unknown.clear()
            self._unknown[number] = time.monotonic() + _FORGET_UNKNOWN
            raise Refused("unknown_schema", f"schema id {number} is not registered")
        if len(self._known) >= _MAX_CACHED:
            self._known.clear()
        self._known[number] = _parsed(number, text)
        return self._known[number]

    def _read(self, number: int) -> bytes | None:
        path = self._folder / f"{number}.avsc"
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputDataError(f"{path}: {error}") from error

    def _fetch(self, number: int) -> bytes | None:
        address = f"{self._url}/schemas/ids/{number}"
        problem = ""
        for attempt in range(_ATTEMPTS):
            try:
                with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer:
                    body = answer.read(_MAX_BYTES + 1)
                if len(body) > _MAX_BYTES:
                    raise Refused("bad_schema", f"schema id {number} is larger than {_MAX_BYTES} bytes")
                schema = orjson.loads(body)["schema"]
                return str(schema).encode()
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    return None
                problem = f"status {error.code}"
            except (OSError, ValueError, KeyError, TypeError) as error:
                problem = f"{type(error).__name__}: {error}"
            time.sleep(0.2 * 2**attempt)
        raise BrokerUnavailable(
            f"schema registry {self._url}: schema id {number}: {problem[:200]}; tried {_ATTEMPTS} times, check that it runs"
        )


def _parsed(number: int, text: bytes) -> Any:
    try:
        plain = _plain(orjson.loads(text), set(), 0)
        if not isinstance(plain, dict) or plain.get("type") != "record":
            raise ValueError("expected a record")
        return fastavro.parse_schema(plain)
    except (ValueError, TypeError, KeyError, SchemaParseException, UnknownType, RecursionError) as error:
        raise Refused("bad_schema", f"schema id {number}: {error}"[:200]) from None


def _plain(schema: Any, inside: set[str], depth: int) -> Any:
    """The schema without logical times, which stay exact numbers so. Raises ValueError where a few bytes could mean endless work."""
    if depth > 32:
        raise ValueError("nested deeper than 32")
    if isinstance(schema, list):
        return [_plain(part, inside, depth + 1) for part in schema]
    if isinstance(schema, str):
        if schema in inside:
            raise ValueError(f"type {schema} contains itself")
        return schema
    if not isinstance(schema, dict):
        raise ValueError("expected a name, a list or an object as type")
    out = {key: value for key, value in schema.items() if key not in ("default", "doc", "aliases")}
    if "decimal" not in str(out.get("logicalType")):
        out.pop("logicalType", None)
    kind = out.get("type")
    if kind == "record":
        names = {str(out.get("name")), f"{out.get('namespace')}.{out.get('name')}"}
        out["fields"] = [
            {"name": field["name"], "type": _plain(field["type"], inside | names, depth + 1)}
            for field in out["fields"]
        ]
    elif kind in ("array", "map"):
        part = "items" if kind == "array" else "values"
        out[part] = _plain(out[part], inside, depth + 1)
        if kind == "array" and not _has_size(out[part]):
            raise ValueError("an array of items without size")
    elif isinstance(kind, (dict, list)):
        out["type"] = _plain(kind, inside, depth + 1)
    return out


def _has_size(schema: Any) -> bool:
    if isinstance(schema, list):
        return True
    if isinstance(schema, str):
        return schema in ("boolean", "int", "long", "float", "double", "bytes", "string")
    kind = schema.get("type")
    if kind == "record":
        return any(_has_size(field["type"]) for field in schema["fields"])
    if kind == "fixed":
        return int(schema.get("size", 0)) > 0
    return kind in ("enum", "array", "map") or _has_size(kind)
