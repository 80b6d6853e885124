"""``python -m localful_ws`` is ``localful-ws``."""

from localful_ws.cli import main

if __name__ == "__main__":
    main()
