"""`python -m etl`."""

import os
import sys

from etl.cli import main

try:
    code = main()
except SystemExit as ended:
    code = ended.code if isinstance(ended.code, int) else bool(ended.code)
if code in (130, 143):  # told to end: not held up by reads in other threads that S3 does not answer
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
