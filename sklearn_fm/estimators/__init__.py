"""The scikit-learn face of the models; the public classes are in ``families``."""
