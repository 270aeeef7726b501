"""``python -m rlhf``, which is what launchers start: ``accelerate launch -m rlhf ppo …``."""

import sys

from rlhf.cli import main

if __name__ == "__main__":
    sys.exit(main())
