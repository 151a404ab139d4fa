"""``python -m spikenet`` is the command ``spikenet``."""

import sys

from spikenet.cli import main

if __name__ == "__main__":
    sys.exit(main())
