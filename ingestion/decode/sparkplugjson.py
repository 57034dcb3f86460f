"""Sparkplug B as JSON, as bridges and historians write it."""

import base64
import binascii
from typing import Any

from ingestion.decode.rows import Refused
from ingestion.decode.sparkplugmetric import COMPRESSED, Bounded, Content, Metric, envelope
from ingestion.decode.sparkplugpb import VALUES


def split_json(content: Any) -> tuple[Any, dict[str, Any]]:
    """The topic beside the payload, if there is one, and the payload. Raises Refused."""
    if not isinstance(content, dict):
        raise Refused("wrong_shape", f"expected an object, found {type(content).__name__}")
    body = content.get("payload") if "payload" in content else content
    if not isinstance(body, dict):
        raise Refused("wrong_shape", f"expected an object as payload, found {type(body).__name__}")
    return content.get("topic"), body


def content_of(body: dict[str, Any], bounded: Bounded) -> Content:
    """A payload object. Raises Refused (`wrong_shape`, `too_large`)."""
    time, seq = body.get("timestamp"), body.get("seq")
    metrics = _metrics(body.get("metrics", []), bounded)
    if body.get("uuid") == COMPRESSED and isinstance(body.get("body"), str):
        try:
            return envelope(time, seq, base64.b64decode(body["body"], validate=True), metrics)
        except (binascii.Error, ValueError):
            raise Refused("wrong_shape", "expected base64 as compressed body") from None
    return Content(time, seq, metrics)


def _metrics(found: Any, bounded: Bounded) -> tuple[Metric, ...]:
    if not isinstance(found, list):
        raise Refused("wrong_shape", f"expected a list as metrics, found {type(found).__name__}")
    bounded(len(found))
    return tuple(_metric(metric, bounded) for metric in found)


def _metric(metric: Any, bounded: Bounded) -> Metric:
    if not isinstance(metric, dict):
        raise Refused("wrong_shape", f"expected an object as metric, found {type(metric).__name__}")
    get = metric.get
    name, alias = get("name"), get("alias")
    if isinstance(alias, str) and alias.isascii() and alias.isdigit() and len(alias) < 20:
        alias = int(alias)
    if not (name is None or isinstance(name, str)) or not (alias is None or type(alias) is int):
        raise Refused("wrong_shape", "expected text as metric name and a whole number as alias")
    kind = next((get(n) for n in ("dataType", "datatype", "type") if n in metric), None)
    if get("isNull") is True or get("is_null") is True:
        value = None
    elif "value" in metric:
        value = metric["value"]
    else:
        value = next((get(n) for n in _VALUES if n in metric), None)
    members, definition = None, False
    template = value if kind in ("Template", 19) else get("templateValue", get("template_value"))
    if isinstance(template, dict):
        value, members = None, _metrics(template.get("metrics", []), bounded)
        definition = template.get("isDefinition") is True or template.get("is_definition") is True
    elif isinstance(get("datasetValue", get("dataset_value")), dict):
        kind = "DataSet"
    return Metric(
        name,
        alias,
        get("timestamp"),
        kind if isinstance(kind, (str, int)) else None,
        value,
        get("isHistorical") is True or get("is_historical") is True,
        _quality(get("properties")),
        members,
        definition,
    )


def _camel(name: str) -> str:
    head, _, tail = name.partition("_")
    return head + tail.capitalize()


_VALUES = tuple(n for n in (*VALUES, *map(_camel, VALUES)) if "bytes" not in n)


def _quality(properties: Any) -> Any:
    if not isinstance(properties, dict):
        return None
    found = properties.get("Quality")
    return found.get("value") if isinstance(found, dict) else found
