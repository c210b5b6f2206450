"""Graph to graph: passes that keep what a graph computes and make it cheaper. Start at :mod:`.pipeline`."""
