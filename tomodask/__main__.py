"""``python -m tomodask``."""

import sys

from tomodask.cli import main

sys.exit(main())
