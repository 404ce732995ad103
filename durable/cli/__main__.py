"""`python -m durable.cli`: the command line where the script `durable` is not on PATH."""

import sys

from durable.cli import main

sys.exit(main())
