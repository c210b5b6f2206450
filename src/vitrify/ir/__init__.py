"""The tensor graph and its algebra; imports nothing else of this package."""
