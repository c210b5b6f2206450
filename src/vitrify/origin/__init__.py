"""What an artifact was made from, and how: its parts list, its provenance, its probes, and making it once more."""
