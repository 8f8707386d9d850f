"""Records that the Kinesis Producer Library packed together: taken apart as the library's format says.

An aggregate is a magic number, a Protocol Buffers message and the MD5 of the message. The decoder is written
here: the format has three fields, and a function should not load a Protocol Buffers runtime for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5

from qis.application.ingest import AGGREGATE

_DIGEST = 16
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
"""Wire types of Protocol Buffers that are still in use."""
_PARTITION_KEY, _RECORD = 1, 3
"""Fields of the message; of a record the number of its partition key and its data have the same numbers."""
_MOST_BITS = 63


def user_records(data: bytes) -> list[bytes] | None:
    """The records that an aggregate holds, in order.

    Returns:
        ``None`` where the data is a record of its own, and no whole aggregate: it lacks the magic number, or
        its message has another form or digest, or holds no record.
    """
    if not data.startswith(AGGREGATE) or len(data) < len(AGGREGATE) + _DIGEST:
        return None
    message, digest = data[len(AGGREGATE) : -_DIGEST], data[-_DIGEST:]
    if md5(message, usedforsecurity=False).digest() != digest:
        return None
    try:
        return _records(message) or None
    except _Malformed:
        return None


class _Malformed(Exception):
    """The message is not of the library's format."""


def _records(message: bytes) -> list[bytes]:
    keys, records = 0, list[tuple[int, bytes]]()
    for number, value in _fields(message):
        if number == _PARTITION_KEY:
            _text(value)
            keys += 1
        elif number == _RECORD:
            records.append(_record(_text(value)))
    if any(key >= keys for key, _ in records):
        raise _Malformed("a record names a partition key that is not there")
    return [data for _, data in records]


def _record(message: bytes) -> tuple[int, bytes]:
    """The number of a record's partition key, and its data; of a repeated field the last one counts."""
    key: int | None = None
    data: bytes | None = None
    for number, value in _fields(message):
        if number == _PARTITION_KEY:
            if isinstance(value, bytes):
                raise _Malformed("the number of a partition key is no number")
            key = value
        elif number == _RECORD:
            data = _text(value)
    if key is None or data is None:
        raise _Malformed("a record lacks its partition key or its data")
    return key, data


def _text(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise _Malformed("a field is no bytes")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of the fields of a message. No known field has a fixed width; such are bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if not number:
            raise _Malformed("a field has number 0")
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise _Malformed("a field has an unknown wire type")
        if length > len(message) - at:
            raise _Malformed("a field is longer than the message")
        yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, and where what follows it begins."""
    value = shift = 0
    while at < len(message) and shift <= _MOST_BITS:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _Malformed("a number has no end")
