"""What a session does in Python at the plan's edges: strings, sequences, optionals and maps."""
