"""Prints the directory of the headers."""

import sys

from vitrify.include import include_directory

sys.stdout.write(f"{include_directory()}\n")
