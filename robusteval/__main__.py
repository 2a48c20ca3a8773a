"""python -m robusteval."""

from robusteval.cli.app import main

main()
