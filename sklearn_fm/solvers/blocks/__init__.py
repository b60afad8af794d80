"""What solvers that update the block of one index at a time share."""
