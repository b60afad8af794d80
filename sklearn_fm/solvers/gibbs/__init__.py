"""Draws from the posterior of a factorization machine."""
