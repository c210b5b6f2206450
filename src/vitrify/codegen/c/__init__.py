"""C text for kernels and plans."""
