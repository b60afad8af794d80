"""Fits that are not gradient descent: blocks in closed form, and draws from the posterior."""
