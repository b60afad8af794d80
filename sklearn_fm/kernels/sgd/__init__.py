"""Training steps on single rows of the table, and reading them."""
