"""Rewrite rules, one file per law, each file ending in the list that passes use."""
