"""The pieces of gradient descent: rows, steps, rules, epochs."""
