"""The Sparkplug B protobuf payload, as far as it is needed, as a descriptor built here (Eclipse Sparkplug 3.0, section 6.4).

Of data sets only their presence is read; metadata are left out: the parser skips fields it does not know.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from ingestion.decode.rows import Refused
from ingestion.decode.sparkplugmetric import COMPRESSED, Bounded, Content, Metric, envelope

_F = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "uint32": _F.TYPE_UINT32,
    "uint64": _F.TYPE_UINT64,
    "float": _F.TYPE_FLOAT,
    "double": _F.TYPE_DOUBLE,
    "bool": _F.TYPE_BOOL,
    "string": _F.TYPE_STRING,
    "bytes": _F.TYPE_BYTES,
}
_MESSAGES = {
    "Payload": "timestamp uint64 1, metrics *Metric 2, seq uint64 3, uuid string 4, body bytes 5",
    "Metric": "name string 1, alias uint64 2, timestamp uint64 3, datatype uint32 4, is_historical bool 5, "
    "is_transient bool 6, is_null bool 7, properties PropertySet 9, int_value uint32 10, long_value uint64 11, "
    "float_value float 12, double_value double 13, boolean_value bool 14, string_value string 15, bytes_value bytes 16, "
    "dataset_value bytes 17, template_value Template 18",
    "Template": "metrics *Metric 2, is_definition bool 5",
    "PropertySet": "keys *string 1, values *PropertyValue 2",
    "PropertyValue": "type uint32 1, is_null bool 2, int_value uint32 3, long_value uint64 4, float_value float 5, "
    "double_value double 6, boolean_value bool 7, string_value string 8",
}
VALUES = (
    "int_value",
    "long_value",
    "float_value",
    "double_value",
    "boolean_value",
    "string_value",
    "bytes_value",
)


def _payload_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="fedplant_sparkplug_b.proto", package="fedplant.sparkplug", syntax="proto2"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in fields.split(", "):
            label, kind, number = text.split()
            repeated, kind = kind.startswith("*"), kind.lstrip("*")
            field = message.field.add(name=label, number=int(number))
            field.label = _F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                field.type = _F.TYPE_MESSAGE
                field.type_name = f".fedplant.sparkplug.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("fedplant.sparkplug.Payload"))


Payload = _payload_class()


def content_of(value: bytes, bounded: Bounded) -> Content:
    """A protobuf payload. Raises Refused (`not_sparkplug`, `too_large`)."""
    payload = Payload()
    try:
        payload.ParseFromString(value)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("not_sparkplug", f"not a Sparkplug B payload: {error}"[:200]) from None
    try:
        compressed = payload.uuid == COMPRESSED and payload.HasField("body")
    except UnicodeDecodeError:
        compressed = False
    if not payload.HasField("timestamp") and not payload.metrics and not compressed:
        raise Refused("not_sparkplug", "no timestamp and no metric: not a Sparkplug B payload")
    time = payload.timestamp if payload.HasField("timestamp") else None
    seq = payload.seq if payload.HasField("seq") else None
    metrics = _metrics(payload.metrics, bounded)
    return envelope(time, seq, payload.body, metrics) if compressed else Content(time, seq, metrics)


def _metrics(found: Any, bounded: Bounded) -> tuple[Metric, ...]:
    bounded(len(found))
    return tuple(_metric(metric, bounded) for metric in found)


def _metric(metric: Any, bounded: Bounded) -> Metric:
    try:
        given = {field.name: value for field, value in metric.ListFields()}
    except UnicodeDecodeError as error:
        raise Refused("not_sparkplug", f"text is not UTF-8: {error.reason}") from None
    if isinstance(given.get("name"), bytes):  # what the C parser gives for text that is not UTF-8
        raise Refused("not_sparkplug", "a metric name is not UTF-8")
    value = None if given.get("is_null") else next((given[name] for name in VALUES if name in given), None)
    quality = None
    if "properties" in given:
        for key, prop in zip(metric.properties.keys, metric.properties.values, strict=False):
            if key == "Quality":
                quality = prop.int_value or prop.long_value
    found = Metric(
        given.get("name"),
        given.get("alias"),
        given.get("timestamp"),
        "DataSet" if "dataset_value" in given else given.get("datatype"),
        value,
        given.get("is_historical", False),
        quality,
    )
    if "template_value" not in given:
        return found
    template = given["template_value"]
    return found._replace(members=_metrics(template.metrics, bounded), definition=template.is_definition)
