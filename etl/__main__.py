"""`python -m etl`."""

import sys

# Arrow does without numpy, and imports it only to be ready for arrays that no command makes: two thirds of the time
# that a command takes to start, and 11 MB.
sys.modules["numpy"] = None  # type: ignore[assignment]

from etl.cli import main  # noqa: E402

sys.exit(main())
