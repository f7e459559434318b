"""`python -m fedge` is `fedge`."""

from fedge.cli import main

main()
