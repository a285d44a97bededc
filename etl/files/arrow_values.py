"""Arrow arrays and scalars out of plain Python values, made from buffers.

`pa.array` and `pa.scalar` import pandas to look at what they are given, which costs a run half a second.
"""

from array import array
from collections.abc import Iterable
from itertools import accumulate

import pyarrow as pa


def string_array(values: list[str]) -> pa.StringArray:
    """A string array without nulls."""
    encoded = [value.encode() for value in values]
    offsets = array("i", accumulate(map(len, encoded), initial=0))
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def float_array(values: Iterable[float]) -> pa.DoubleArray:
    """A float64 array without nulls."""
    numbers = array("d", values)
    return pa.Array.from_buffers(pa.float64(), len(numbers), [None, pa.py_buffer(numbers)])


def string_scalar(value: str) -> pa.StringScalar:
    return string_array([value])[0]


def float_scalar(value: float) -> pa.DoubleScalar:
    return float_array([value])[0]


def null_float() -> pa.DoubleScalar:
    return pa.nulls(1, pa.float64())[0]
