"""polars: `scan_csv` and `read_csv`, and `write_database` by ADBC."""

from __future__ import annotations

import polars as pl

from tests.proof.dirt.batch import FIELDS, TABLE, Batch, Said, company_name


def usual(batch: Batch) -> Said:
    _write(pl.scan_csv(batch.files(), include_file_paths="path").collect(), batch)
    return {}


def careful(batch: Batch) -> Said:
    """Everything read as text, then checked column by column; files that cannot be read are left out and named."""
    said: Said = {}
    frames = []
    for file in batch.files():
        company = company_name(file)
        try:
            read = pl.read_csv(file, infer_schema=False)
            rows = read.rename(str.strip).select(FIELDS)
        except (pl.exceptions.PolarsError, OSError) as error:
            said[company] = f"not read: {error}"
            continue
        checked = _checked(rows)
        frames.append(checked.with_columns(pl.lit(company).alias("company_name")))
        if len(checked) < len(rows) or rows.is_empty():
            said[company] = f"{len(rows)} rows read, {len(checked)} taken"
    _write(pl.concat(frames), batch)
    return said


def _checked(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows whose day and numbers are good; of two different rows of a day, neither."""
    numbers = [pl.col(name).str.strip_chars().cast(pl.Float64, strict=False) for name in FIELDS[1:]]
    typed = rows.with_columns(pl.col("Date").str.strip_chars().str.to_date("%Y-%m-%d", strict=False), *numbers)
    good = [pl.col(name).is_finite() & (pl.col(name) >= 0) for name in FIELDS[1:]]
    whole = pl.col("Volume") == pl.col("Volume").round()
    once = typed.filter(pl.col("Date").is_not_null(), *good, whole).unique(maintain_order=True)
    return once.filter(pl.len().over("Date") == 1)


def _write(prices: pl.DataFrame, batch: Batch) -> None:
    prices.write_database(TABLE, batch.url, engine="adbc", if_table_exists="replace")
