"""`python -m etl` is the console script `mbd`."""

from etl.cli import script

script()
