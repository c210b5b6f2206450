"""Sealed artifacts that lie: each changed in one way, each refused for it. ``table.attacks()`` has all of them."""
