"""How a sealed table holds user ids: a number in each row, and each id as text where its number is new.

    user_id         text where the row is the first of its id, null otherwise
    adyton_code     int32: 0 for the first text of the column, 1 for the second, ...

Who seals looks each id up once, so that nobody who opens the table has to: an enclave hashes each text once and takes
the rest by number. At ten million rows of a million users, coding the texts was half of a job's time.

Numbers are their owner's word, as ids are: whoever seals may call two people one. They are checked for their range
only. An id may have several numbers, since `IdCoder` forgets ids for the room that they take: join keys are made of
the text.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from adyton.cleanroom.errors import SealBrokenError, TableRejectedError

CODE = "adyton_code"
"""The stored column of numbers."""
MOST_KNOWN = 1 << 21
"""Ids that a coder remembers at most."""
_MOST_CODES = 2**31

_WRITTEN_AT_ONCE = 1 << 16

IdSlab = tuple[NDArray[np.int32], pa.Array]
"""Codes int32[rows] and the texts that are new, in the order of their codes."""


class IdCoder:
    """Codes a column that comes in slabs. `where`: for errors."""

    def __init__(self, id_type: pa.DataType, where: str, most_known: int = MOST_KNOWN) -> None:
        self._known = pa.array([], id_type)
        self._forgotten, self._most, self._where = 0, most_known, where

    def coded(self, ids: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
        """The next slab: texts with null in place of all that are known, and codes, both [rows].

        Raises TableRejectedError for an empty id, or more ids than there are codes.
        """
        values = _whole(ids)
        if values.null_count:
            raise TableRejectedError("a user id is empty", where=self._where)
        if len(self._known) >= self._most:
            self._forgotten += len(self._known)
            self._known = self._known.slice(0, 0)
        if len(self._known):
            place = pc.index_in(values, self._known)
            new_rows = np.flatnonzero(np.asarray(pc.is_null(place)))
            codes, new = np.array(pc.fill_null(place, 0)), values.take(pa.array(new_rows)).dictionary_encode()
        else:
            new_rows, codes, new = np.arange(len(values)), np.zeros(len(values), np.int32), values.dictionary_encode()
        order = np.asarray(new.indices)
        codes[new_rows] = len(self._known) + order
        # A dictionary is in the order of first appearance: a row is its id's first where the highest index rises.
        highest = np.maximum.accumulate(order)
        is_first = np.zeros(len(values), bool)
        is_first[new_rows] = np.append(True, highest[1:] > highest[:-1])[: len(order)]
        if self._forgotten + len(self._known) + len(new.dictionary) > _MOST_CODES:
            raise TableRejectedError("more user ids than a sealed table can hold", where=self._where)
        codes += self._forgotten
        self._known = pa.concat_arrays([self._known, new.dictionary])
        return pc.if_else(pa.array(is_first), values, pa.scalar(None, values.type)), pa.array(codes, pa.int32())


def slab_of(stored: pa.ChunkedArray, codes: pa.ChunkedArray, texts_before: int, where: str) -> IdSlab:
    """A slab as it was stored. texts_before: of earlier slabs.   Raises SealBrokenError for codes without a text."""
    texts = _whole(stored).drop_null()
    numbers = np.asarray(_whole(codes).fill_null(-1), np.int32)
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < texts_before + len(texts):
        raise SealBrokenError("user ids of the sealed table have numbers without a text", where=where)
    return numbers, texts


def slab_of_plain(ids: pa.ChunkedArray, texts_before: int, where: str) -> IdSlab:
    """A slab of a column that is stored as it is; what an earlier slab had gets another code.

    Raises SealBrokenError for an empty id.
    """
    if ids.null_count:
        raise SealBrokenError("a user id of the sealed table is empty", where=where)
    encoded = _whole(ids).dictionary_encode()
    return np.asarray(encoded.indices, np.int32) + np.int32(texts_before), encoded.dictionary


class IdTexts:
    """Writes coded ids out again, slab by slab. `where`: for errors.   most_bytes: that all rows' ids may take."""

    def __init__(self, id_type: pa.DataType, where: str, most_bytes: int) -> None:
        self._texts, self._where, self._left = pa.array([], id_type), where, most_bytes

    def of(self, stored: pa.ChunkedArray, codes: pa.ChunkedArray) -> pa.ChunkedArray:
        """The next slab's ids, one per row. Raises SealBrokenError, TableRejectedError if they take too much."""
        numbers, new = slab_of(stored, codes, len(self._texts), self._where)
        if len(new):
            self._texts = pa.concat_arrays([self._texts, new])
        if pa.types.is_string(self._texts.type):
            # Added up before anything is written out: one long id in all rows is a small file.
            lengths = np.asarray(pc.fill_null(pc.binary_length(self._texts), 0), np.int64)
            self._left -= int(lengths[numbers].sum())
            if self._left < 0:
                raise TableRejectedError("the sealed table's user ids swell to too many bytes", where=self._where)
        # In pieces, since one array holds no more than 2 GiB of text.
        starts = range(0, len(numbers), _WRITTEN_AT_ONCE)
        pieces = [self._texts.take(pa.array(numbers[start : start + _WRITTEN_AT_ONCE])) for start in starts]
        return pa.chunked_array(pieces, self._texts.type)


def _whole(values: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays([pa.array([], values.type), *values.chunks])
