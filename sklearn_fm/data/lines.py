"""Lines of labels and entries as numbers, and back, in buffers of bounded size.

What a field or an index stands for is the business of ``files``.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, Never

import numpy as np
from numpy.typing import NDArray

__all__ = ["Lines", "narrow", "opened", "read_rows", "write_rows"]

_BUFFER = 2**20  # bytes of text; what is parsed from them fits a cache

_is_number = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?").fullmatch
_is_index = re.compile(rb"\d{1,18}").fullmatch  # what int64 surely holds


@dataclass(frozen=True, eq=False)
class Lines:
    """What lines of text say, entry by entry.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        Labels.
    lines : ndarray of shape (n_rows,)
        Number of each row's line.
    counts : ndarray of shape (n_rows,)
        Number of entries of each row.
    fields : ndarray of shape (n_entries,)
        Fields, if the lines have any.
    indices : ndarray of shape (n_entries,)
        Indices.
    values : ndarray of shape (n_entries,)
        Values.
    name : str
        Where they come from, for messages.
    """

    y: NDArray[np.float64]
    lines: NDArray[np.int64]
    counts: NDArray[np.int64]
    fields: NDArray[Any]
    indices: NDArray[Any]
    values: NDArray[Any]
    name: str

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First entry of each row, and the number of entries; of shape (n_rows + 1,)."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    @cached_property
    def row_of_entry(self) -> NDArray[np.int64]:
        """Row of each entry."""
        return np.repeat(np.arange(len(self.y)), self.counts)

    def fail(self, entry: int, what: str) -> Never:
        """Raise over an entry.

        Parameters
        ----------
        entry : int
            Its number.
        what : str
            What was found and what was expected.

        Raises
        ------
        ValueError
            Always; with file and line.
        """
        row = int(np.searchsorted(self.starts, entry, side="right")) - 1
        raise ValueError(f"{self.name}, line {self.lines[row]}: {what}.")


class _Form(NamedTuple):
    """What the lines of a file look like."""

    name: str  # of the file, for messages
    has_fields: bool
    dtype: np.dtype[Any]  # of the values
    largest: float  # value

    def fail(self, line: int, what: str) -> Never:
        raise ValueError(f"{self.name}, line {line}: {what}.")


def read_rows(source: Any, *, has_fields: bool, dtype: Any, largest: float) -> list[Lines]:
    """Read all rows of a file, by stretches of some thousand rows.

    Parameters
    ----------
    source : str, path-like or file
        Path, of a gzip file if it ends in ``.gz``; or a file open for reading bytes.
    has_fields : bool
        Whether entries are ``field:index:value``; else they are ``index:value``, and the
        indices of a row must ascend.
    dtype : {float32, float64}
        Type of the values.
    largest : float
        Largest absolute value.

    Returns
    -------
    list of Rows
        At least one row in all.

    Raises
    ------
    ValueError
        If a line is malformed or there are no rows.
    """
    name = str(getattr(source, "name", "file")) if hasattr(source, "read") else os.fsdecode(source)
    form = _Form(name, has_fields, np.dtype(dtype), largest)
    parts: list[Lines] = []
    line, room = 1, None
    with opened(source, "rb") as file:
        for text in _whole_lines(file, form):
            room = _enough(room, len(text))
            part = _parse_quickly(text, line, form, room) or _parse_slowly(text, line, form)
            parts.append(part)
            line += text.count(b"\n")
    if not any(len(part.y) for part in parts):
        raise ValueError(f"{name} holds no rows, but {line - 1} blank lines or comments.")
    return parts


@contextlib.contextmanager
def opened(path: Any, mode: str) -> Iterator[Any]:
    """Open a path, or take a file as it is and leave it open.

    Parameters
    ----------
    path : str, path-like or file
        Path, of a gzip file if it ends in ``.gz``; or a file open for bytes.
    mode : {"rb", "wb"}
        Whether to read or write.

    Yields
    ------
    file
    """
    if hasattr(path, "read" if mode == "rb" else "write"):
        yield path
    elif os.fsdecode(path).endswith(".gz"):
        level = 6  # half the time of gzip's default for 1 % more bytes
        with gzip.open(path, mode, compresslevel=level) as file:
            yield file
    else:
        with open(path, mode) as file:
            yield file


def _whole_lines(file: Any, form: _Form) -> Iterator[bytes]:
    """Stretches of a file that end with a newline."""
    pieces: list[bytes] = []
    while piece := file.read(_BUFFER):
        if not isinstance(piece, bytes):
            raise TypeError(f"{form.name} gives {type(piece).__name__}; open it for reading bytes.")
        end = piece.rfind(b"\n") + 1
        if end:
            yield b"".join([*pieces, piece[:end]])
            pieces = []
        pieces.append(piece[end:])
    if rest := b"".join(pieces):
        yield rest + b"\n"


# -- by the kernel -----------------------------------------------------------------------------


class _Room(NamedTuple):
    """Arrays that a kernel writes what it parses to."""

    labels: NDArray[np.float64]
    lines: NDArray[np.int64]
    ends: NDArray[np.int64]
    fields: NDArray[np.int64]
    indices: NDArray[np.int64]
    values: NDArray[np.float64]
    long_ones: NDArray[np.int64]


def _enough(room: _Room | None, n_bytes: int) -> _Room:
    """Room for that many bytes of text: what there is, if it is large enough."""
    n_rows = n_bytes // 2 + 1  # "1" and a newline
    if room is not None and len(room.labels) >= n_rows:
        return room
    n_entries = n_bytes // 4 + 1  # "1:1" and a blank
    n_long = n_bytes // 5 + 1  # "1e23" and a blank
    return _Room(
        np.empty(n_rows),
        np.empty(n_rows, dtype=np.int64),
        np.empty(n_rows, dtype=np.int64),
        np.empty(n_entries, dtype=np.int64),
        np.empty(n_entries, dtype=np.int64),
        np.empty(n_entries),
        np.empty((n_long, 3), dtype=np.int64),
    )


@functools.cache
def _compiled_parse() -> Callable[..., tuple[int, int, int]] | None:
    """Kernel for `_parse_quickly`, if numba is installed."""
    try:
        from ..kernels.text.parse import parse
    except ImportError:
        return None
    return parse


def _parse_quickly(text: bytes, first_line: int, form: _Form, room: _Room) -> Lines | None:
    """Rows of some lines; None without numba or if a line is malformed."""
    parse = _compiled_parse()
    if parse is None:
        return None
    as_numbers = np.frombuffer(text, dtype=np.uint8)
    n_rows, n_entries, n_long = parse(as_numbers, form.has_fields, first_line, *room)
    if n_rows < 0:
        return None
    for which, start, end in room.long_ones[:n_long].tolist():
        number = float(text[start:end])
        if which >= 0:
            room.values[which] = number
        elif math.isfinite(number):
            room.labels[-1 - which] = number
        else:
            return None
    if np.abs(room.values[:n_entries]).max(initial=0) > form.largest:
        return None
    return Lines(
        room.labels[:n_rows].copy(),
        room.lines[:n_rows].copy(),
        np.diff(room.ends[:n_rows], prepend=0),
        narrow(room.fields[: n_entries if form.has_fields else 0]),
        narrow(room.indices[:n_entries]),
        room.values[:n_entries].astype(form.dtype),
        form.name,
    )


def narrow(numbers: NDArray[np.int64]) -> NDArray[Any]:
    """Copy numbers, to int32 if that can hold them.

    Parameters
    ----------
    numbers : ndarray of int64 of shape (n,)
        Not negative.

    Returns
    -------
    ndarray of shape (n,)
    """
    is_small = numbers.max(initial=0) < 2**31
    return numbers.astype(np.int32 if is_small else np.int64)


# -- without it --------------------------------------------------------------------------------


def _parse_slowly(text: bytes, first_line: int, form: _Form) -> Lines:
    """Rows of some lines, or an error that names the first token at fault."""
    labels: list[float] = []
    lines: list[int] = []
    counts: list[int] = []
    entries: list[tuple[int, int, float]] = []
    for line, content in enumerate(text.split(b"\n"), first_line):
        tokens = content.partition(b"#")[0].split()
        if tokens:
            labels.append(_label(tokens[0], line, form))
            lines.append(line)
            row = [_entry(token, line, form) for token in tokens[1:]]
            if not form.has_fields:
                _check_ascending([index for _, index, _ in row], line, form)
            counts.append(len(row))
            entries += row
    fields, indices, values = zip(*entries, strict=True) if entries else ((), (), ())
    return Lines(
        np.array(labels, dtype=np.float64),
        np.array(lines, dtype=np.int64),
        np.array(counts, dtype=np.int64),
        narrow(np.array(fields if form.has_fields else (), dtype=np.int64)),
        narrow(np.array(indices, dtype=np.int64)),
        np.array(values, dtype=form.dtype),
        form.name,
    )


def _label(token: bytes, line: int, form: _Form) -> float:
    if not _is_number(token) or not math.isfinite(float(token)):
        form.fail(line, f"expected a label, which is one finite number, got {_shown(token)}")
    return float(token)


def _entry(token: bytes, line: int, form: _Form) -> tuple[int, int, float]:
    *numbers, value = token.split(b":")
    is_whole = len(numbers) == 1 + form.has_fields and all(map(_is_index, numbers))
    if not is_whole or not _is_number(value) or not abs(float(value)) <= form.largest:
        what = "field:index:value" if form.has_fields else "index:value"
        limit = "" if form.largest > 1e300 else f" up to {form.largest:.2g}"
        form.fail(
            line,
            f"expected {what}, whole numbers of at most 18 digits and a finite number{limit}, "
            f"got {_shown(token)}{_hint(token, form)}",
        )
    return int(numbers[0]) if form.has_fields else 0, int(numbers[-1]), float(value)


def _check_ascending(indices: Sequence[int], line: int, form: _Form) -> None:
    for before, index in pairwise(indices):
        if index <= before:
            form.fail(line, f"expected ascending indices, got {index} after {before}")


def _shown(token: bytes) -> str:
    text = token.decode(errors="backslashreplace")
    return repr(text if len(text) <= 60 else text[:60] + "...")


def _hint(token: bytes, form: _Form) -> str:
    """What else the token may be."""
    if token.startswith(b"qid:"):
        return (
            ". Queries are not read; scikit-learn's load_svmlight_file does, with query_id=True, "
            "or remove them from the lines"
        )
    if token.count(b":") == 2 and not form.has_fields:
        return ". load_libffm reads entries with fields"
    if token.count(b":") == 1 and form.has_fields:
        return ". load_libsvm reads entries without fields"
    return ""


# -- writing -----------------------------------------------------------------------------------


def write_rows(
    file: Any,
    y: NDArray[Any],
    starts: NDArray[Any],
    fields: NDArray[np.int64],
    indices: NDArray[np.int64],
    values: NDArray[Any],
) -> None:
    """Write a line per row, numbers by the fewest digits that tell them apart in their type.

    Parameters
    ----------
    file : file
        Open for writing bytes.
    y : ndarray of shape (n_rows,)
        Finite labels.
    starts : ndarray of shape (n_rows + 1,)
        First entry of each row, and the number of entries.
    fields : ndarray of shape (n_entries,) or (0,)
        Fields, if the lines are to have any.
    indices : ndarray of shape (n_entries,)
        Indices.
    values : ndarray of shape (n_entries,)
        Finite values.
    """
    with_kernels = _compiled_printing()
    if with_kernels is None:
        file.write(_print_slowly(y, starts, fields, indices, values))
        return
    count_decimals, print_rows = with_kernels
    decimals = np.full(len(values), -1, dtype=np.int8)
    numbers = _as_floats(values)
    count_decimals(numbers, decimals[: len(numbers)])
    long_ones, long_ends = _joined(_texts(values[decimals < 0]))
    labels, label_ends = _joined(_texts(y))
    n_each = 4 + 19 * (1 + bool(len(fields))) + 20  # separators, whole numbers, short values
    room = np.empty(len(labels) + len(y) + n_each * len(values) + len(long_ones), dtype=np.uint8)
    entries = starts, fields, indices, numbers, decimals
    n_bytes = print_rows(*entries, labels, label_ends, long_ones, long_ends, room)
    file.write(room[:n_bytes].data)


@functools.cache
def _compiled_printing() -> tuple[Callable[..., None], Callable[..., int]] | None:
    """Kernels for `write_rows`, if numba is installed."""
    try:
        from ..kernels.text.printing import count_decimals, print_rows
    except ImportError:
        return None
    return count_decimals, print_rows


def _print_slowly(
    y: NDArray[Any],
    starts: NDArray[Any],
    fields: NDArray[np.int64],
    indices: NDArray[np.int64],
    values: NDArray[Any],
) -> bytes:
    columns = [texts for texts in (_texts(fields), _texts(indices), _texts(values)) if texts]
    entries = [":".join(entry) for entry in zip(*columns, strict=True)]
    ends = starts.tolist()
    return "".join(
        " ".join([label, *entries[start:end]]) + "\n"
        for label, start, end in zip(_texts(y), ends[:-1], ends[1:], strict=True)
    ).encode()


def _as_floats(numbers: NDArray[Any]) -> NDArray[Any]:
    """Numbers in a type that kernels know; none if it does not hold them exactly."""
    if numbers.dtype.char in "fd":
        return numbers
    limits = np.array([numbers.min(initial=0), numbers.max(initial=0)]).tolist()
    is_exact = numbers.dtype.kind in "biu" and max(map(abs, limits)) <= 2**53
    return numbers.astype(np.float64) if is_exact else np.zeros(0)


def _texts(numbers: NDArray[Any]) -> list[str]:
    """Numbers as the fewest digits that tell them apart in their type."""
    if numbers.dtype.kind == "f" and numbers.itemsize != 8:
        return [str(number).removesuffix(".0") for number in numbers]  # float would show more
    if numbers.dtype.kind == "b":
        numbers = numbers.astype(np.int8)
    return [str(number).removesuffix(".0") for number in numbers.tolist()]


def _joined(texts: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Bytes of all texts, and where each ends."""
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    return np.frombuffer("".join(texts).encode(), dtype=np.uint8), ends
