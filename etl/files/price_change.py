"""Computes the two derived columns: the day's change in percent and in USD."""

import pyarrow as pa
import pyarrow.compute as pc

from etl.files.arrow_values import float_scalar, null_float

_HUNDRED = float_scalar(100.0)
_UNDEFINED = null_float()


def daily_percent_change(open_price: pa.DoubleArray, close_price: pa.DoubleArray) -> pa.DoubleArray:
    """((close - open) / open) * 100 in percent (2.5 is 2.5 %), float64, in that order of operations.

    Null where it is undefined: open of 0, or a quotient beyond float64. Formula: docs/reading.md.
    """
    change = pc.divide(pc.subtract(close_price, open_price), open_price)
    percent = pc.multiply(change, _HUNDRED)
    return pc.if_else(pc.is_finite(percent), percent, _UNDEFINED)


def value_change(open_price: pa.DoubleArray, close_price: pa.DoubleArray) -> pa.DoubleArray:
    """close - open in USD, float64."""
    return pc.subtract(close_price, open_price)
