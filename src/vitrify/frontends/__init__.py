"""From models to the tensor graph, one package per format."""
