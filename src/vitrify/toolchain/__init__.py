"""From C text to a shared library."""
