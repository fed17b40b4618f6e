"""`python -m lpo_agent` is `lpo`."""

import sys

from lpo_agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
