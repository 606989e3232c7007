"""``python -m qunxin`` is the command line."""

from qunxin.cli import main

if __name__ == "__main__":
    main()
