"""Kernels for sums of products: matrix products, convolutions, and what they share."""
