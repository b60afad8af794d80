"""The public models, in the forms that tests go through; found by themselves, named nowhere.

What is tested of them is the business of the tests.
"""

import inspect

import sklearn_fm.models
from sklearn_fm.schema import FieldSchema

__all__ = ["MODEL_CASES", "make_model"]


def make_model(name, schema, embedding_dim=3, **options):
    """A public model by name."""
    return getattr(sklearn_fm.models, name)(schema, embedding_dim, **options)


def _cases():
    """Name and options: with and without hidden layers, with one and with three outputs."""
    for name in sklearn_fm.models.__all__:
        parameters = inspect.signature(getattr(sklearn_fm.models, name)).parameters
        for hidden in [(), (4,)] if "hidden_layer_sizes" in parameters else [None]:
            for n_outputs in (1, 3):
                options = {"n_outputs": n_outputs}
                if hidden is not None:
                    options["hidden_layer_sizes"] = hidden
                if not _is_refused(name, options):
                    yield f"{name}-{hidden}-{n_outputs}", (name, options)


def _is_refused(name, options):
    """Whether a model says that it has one output only."""
    try:
        make_model(name, FieldSchema.from_sizes([2, 2]), **options)
    except ValueError as error:
        if "has one output" not in str(error):
            raise
        return True
    return False


#: (name, options) by an id.
MODEL_CASES = dict(_cases())
