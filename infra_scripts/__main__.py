import sys

from infra_scripts.cli import main

sys.exit(main())
