"""Compiled models on disk: the manifest, the directory it describes, and what is checked at load."""
