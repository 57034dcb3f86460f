"""Names in a SavedModel that do not tell what its process did before.

TensorFlow numbers functions and tables by a count of the whole process, so that the second training of a process gave another file than the same
training in a process of its own. Here functions are numbered by the order in which they were traced, which is the same every time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_NUMBERED = re.compile(r"(.*_)(\d+)")
_TABLE = re.compile(r"key_value_init\d+")


def settle_names(folder: Path) -> None:
    """Rewrite `saved_model.pb` of a SavedModel, and its fingerprint, with names that depend on nothing but what it computes."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint

    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graph = saved.meta_graphs[0].graph_def
    numbered = [_NUMBERED.fullmatch(function.signature.name) for function in graph.library.function]
    traced = sorted((match for match in numbered if match), key=lambda match: int(match[2]))
    names = {match[0]: f"{match[1]}{at}" for at, match in enumerate(traced)}
    known = re.compile(rf"(?:{'|'.join(sorted(names, key=len, reverse=True))})(?!\d)")
    _rename(saved, lambda text: _TABLE.sub("key_value_init", known.sub(lambda match: names[match[0]], text)))
    nodes = (*graph.node, *(node for function in graph.library.function for node in function.node_def))
    for node in nodes:
        if node.op == "HashTableV2":
            node.attr["shared_name"].s = b"table"
    for function in graph.library.function:
        for argument in function.arg_attr.values():
            # What a wrapper passes on is named by where it was in memory, which nothing reads.
            if "_user_specified_name" in argument.attr and argument.attr["_user_specified_name"].s.isdigit():
                del argument.attr["_user_specified_name"]
    graph.library.function.sort(key=lambda function: function.signature.name)
    path.write_bytes(saved.SerializeToString(deterministic=True))
    write_fingerprint(str(folder))


def _rename(message: Any, renamed: Callable[[str], str]) -> None:
    """Rename in all texts of a protocol message, the keys of its maps among them."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING and field.label != field.LABEL_REPEATED:
            setattr(message, field.name, renamed(value))
        elif field.type == field.TYPE_STRING:
            value[:] = [renamed(text) for text in value]
        elif field.type != field.TYPE_MESSAGE:
            continue
        elif field.message_type.GetOptions().map_entry:
            _rename_map(field, value, renamed)
        else:
            for part in value if field.label == field.LABEL_REPEATED else (value,):
                _rename(part, renamed)


def _rename_map(field: Any, value: Any, renamed: Callable[[str], str]) -> None:
    kinds = field.message_type.fields_by_name
    texts = kinds["key"].type == field.TYPE_STRING
    messages = kinds["value"].type == field.TYPE_MESSAGE
    for key in list(value):
        if messages:
            _rename(value[key], renamed)
        elif kinds["value"].type == field.TYPE_STRING:
            value[key] = renamed(value[key])
        if texts and (name := renamed(key)) != key:
            if messages:
                value[name].CopyFrom(value[key])
            else:
                value[name] = value[key]
            del value[key]
