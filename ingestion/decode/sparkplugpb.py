"""The Sparkplug B protobuf payload, as far as it is needed, as a descriptor built here (Eclipse Sparkplug 3.0, section 6.4).

Datasets, templates and metadata are left out: the parser skips fields it does not know.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

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
    "float_value float 12, double_value double 13, boolean_value bool 14, string_value string 15, bytes_value bytes 16",
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
