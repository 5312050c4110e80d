"""Break everything that can break, and see that it costs time and nothing else."""
