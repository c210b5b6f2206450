"""Running artifacts: CPU and thread detection, the native call, sessions. Needs NumPy alone."""
