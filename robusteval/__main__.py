"""python -m robusteval."""

from robusteval.cli import main

main()
