"""One module for each group of benchmarks; ``run`` measures it."""
