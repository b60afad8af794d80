"""The pieces of gradient descent: rows, steps, rules, epochs."""

import sys

try:
    import skorch  # noqa: F401
except AttributeError as error:
    if sys.flags.optimize < 2:
        raise
    raise ImportError(
        "skorch reads its own docstrings, which python -OO (PYTHONOPTIMIZE=2) strips, so that "
        "estimators cannot be imported. Use -O (PYTHONOPTIMIZE=1); FieldEncoder and the torch "
        "modules do without skorch."
    ) from error
