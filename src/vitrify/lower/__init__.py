"""From the tensor graph to kernels in Loop IR and a plan that calls them."""
