"""A model from a path, bytes or a ``ModelProto``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from vitrify.errors import InvalidArgumentError, InvalidModelError, NoSuchFileError

ModelSource = str | os.PathLike[str] | bytes | onnx.ModelProto

PROTOBUF_LIMIT = 2**31 - 1  # bytes; larger models keep their tensors in external files


def read_model(model: ModelSource) -> tuple[onnx.ModelProto, Path | None]:
    """The model, and the directory its external data is relative to (None for bytes and protos).

    Raises :class:`NoSuchFileError`, :class:`InvalidModelError`, :class:`InvalidArgumentError`.
    """
    if isinstance(model, onnx.ModelProto):
        return _checked(model, "this ModelProto"), None
    if isinstance(model, bytes | bytearray | memoryview):
        return _parse(bytes(model), "the bytes object"), None
    if not isinstance(model, str | os.PathLike):
        raise InvalidArgumentError(
            "cannot import this object",
            expected="a path, bytes or onnx.ModelProto",
            actual=type(model).__name__,
        )
    path = Path(model)
    return _parse(_read(path), str(path)), path.parent


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise InvalidModelError(f"{path} is a directory", expected="an ONNX file")
        if path.exists() and not path.is_file():
            raise InvalidModelError(f"{path} is not a regular file", expected="an ONNX file")
        size = path.stat().st_size
        if size > PROTOBUF_LIMIT:
            raise InvalidModelError(
                f"{path} is too large for one protobuf message",
                expected=f"at most {PROTOBUF_LIMIT} bytes",
                actual=size,
                hint="save the model with external data",
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise NoSuchFileError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise InvalidModelError(f"{path} cannot be read: {error}") from error


def _parse(data: bytes, what: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise InvalidModelError(
            f"{what} is not an ONNX model, or is truncated ({len(data)} bytes)",
            expected="a serialized onnx.ModelProto",
            hint="check that the file was downloaded completely (Git LFS pointers are a common cause), "
            "and that its graphs are not nested more than 32 deep",
        ) from error
    return _checked(proto, what)


def _checked(proto: onnx.ModelProto, what: str) -> onnx.ModelProto:
    missing = [
        name
        for name, present in (
            ("ir_version", proto.ir_version > 0),
            ("opset_import", len(proto.opset_import) > 0),
            ("graph", proto.HasField("graph")),
        )
        if not present
    ]
    if missing:
        raise InvalidModelError(
            f"{what} is not a complete ONNX model: no {', '.join(missing)}",
            expected="a serialized onnx.ModelProto",
        )
    _check_texts(proto, what)
    return proto


def _check_texts(proto: onnx.ModelProto, what: str) -> None:
    """Names are text that C can hold. Protobuf reads those that are no UTF-8 too, as bytes."""
    pending: list[Any] = [proto]
    while pending:
        message = pending.pop()
        if isinstance(message, onnx.TensorProto) and message.HasField("raw_data"):
            _check_text(message, "name", message.name, what)  # listing all fields would copy the data
            pending.extend(message.external_data)
            continue
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                pending.extend(value if isinstance(value, Sequence) else (value,))
            elif field.type == field.TYPE_STRING:
                for text in (value,) if isinstance(value, (str, bytes)) else value:
                    _check_text(message, field.name, text, what)


def _check_text(message: Any, field: str, text: str | bytes, what: str) -> None:
    if isinstance(text, bytes) or ("\0" in text and field not in ("value", "doc_string")):
        where = f"{type(message).__name__}.{field}"
        raise InvalidModelError(f"{what}: {where} is no text", expected="UTF-8 without NUL", actual=repr(text))
