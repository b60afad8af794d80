"""What an encoder learned is published when all of it is there, and no fit changes it after."""

import pickle

import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin

from sklearn_fm import FieldEncoder
from sklearn_fm.encoding import CategoryEncoder

OLD = pd.DataFrame({"a": list("xyzx"), "n": [1.0, 2.0, 3.0, 4.0], "b": list("pqqr")})
MORE = OLD.assign(a=list("wxvu"), b=list("abcd"))
NEW = pd.DataFrame({"b": list("tsrq"), "n": [5.0, 6.0, 7.0, 9.0]})


class Meddler(TransformerMixin, BaseEstimator):
    """A scaler that changes nothing, but lets something happen in the middle of its work."""

    happens: dict = {}

    def fit(self, X, y=None):
        self.happens.pop("learn", lambda: None)()
        return self

    partial_fit = fit

    def transform(self, X):
        self.happens.pop("transform", lambda: None)()
        return X


@pytest.fixture
def happens():
    yield Meddler.happens
    Meddler.happens.clear()


each_way_to_learn = pytest.mark.parametrize(
    "learn",
    [
        pytest.param(lambda encoder: encoder.fit(NEW), id="fit"),
        pytest.param(lambda encoder: encoder.fit_transform(NEW), id="fit_transform"),
        pytest.param(lambda encoder: encoder.partial_fit(MORE), id="partial_fit"),
    ],
)


def said(encoder, X):
    """Codes, what they mean, and what else an encoder says of itself."""
    codes = encoder.transform(X)
    names = encoder.get_feature_names_out()
    assert codes.schema == encoder.schema_
    assert encoder.schema_.names == tuple(encoder.encoders_)
    return codes.tobytes(), codes.schema, encoder.n_features_in_, *names, str(encoder.summary())


@each_way_to_learn
def test_a_table_is_encoded_by_one_encoder(learn, happens):
    """A fit in another thread, between two columns of a table that was being encoded: the rest of
    it was looked up in the new vocabularies and laid out by the old schema."""
    encoder = FieldEncoder(scaler=Meddler()).fit(OLD)
    before = encoder.transform(OLD)
    happens["transform"] = lambda: learn(encoder)
    during = encoder.transform(OLD)
    assert not happens
    assert_array_equal(during, before)
    assert during.schema == before.schema != encoder.schema_


@each_way_to_learn
def test_nothing_half_learned_is_seen(learn, happens):
    """While a fit was learning the columns of another table, transform took these for those of the
    old vocabularies."""
    encoder = FieldEncoder(scaler=Meddler(), min_frequency=2).fit(OLD)
    before, inside = said(encoder, OLD), []
    happens["learn"] = lambda: inside.append(said(encoder, OLD))
    learn(encoder)
    assert inside == [before]
    assert said(encoder, OLD) != before


def test_rare_categories_are_forgotten_before_anybody_sees_them(monkeypatch):
    """The vocabularies that others read already were cut in place."""
    encoder, seen = FieldEncoder(min_frequency=2), []
    forget = CategoryEncoder.forget_rare

    def forget_and_look(self):
        forget(self)
        seen.append(hasattr(encoder, "schema_"))

    monkeypatch.setattr(CategoryEncoder, "forget_rare", forget_and_look)
    encoder.fit(OLD)
    assert seen == [False, False]


@each_way_to_learn
def test_what_fails_leaves_the_encoder_as_it_was(learn, happens):
    """A fit that failed left the new table's columns with the old table's vocabularies."""

    def fail():
        raise ValueError("no numbers today")

    encoder = FieldEncoder(scaler=Meddler()).fit(OLD)
    before = said(encoder, OLD)
    happens["learn"] = fail
    with pytest.raises(ValueError, match="no numbers today"):
        learn(encoder)
    assert said(encoder, OLD) == before


def test_unknown_rows_of_no_weight_fail_before_the_encoder_is_fitted():
    """They are left out of the fit and are wanted as codes: the encoder had been fitted by then."""
    encoder = FieldEncoder(handle_unknown="error").fit(OLD)
    before = said(encoder, OLD)
    with pytest.raises(ValueError, match="not seen in fit"):
        encoder.fit_transform(NEW, sample_weight=[0.0, 1.0, 1.0, 1.0])
    assert said(encoder, OLD) == before


def test_names_go_with_the_table_that_had_them():
    """Of a fit on an array after one on a DataFrame, and the other way round."""
    encoder = FieldEncoder().fit(OLD)
    encoder.fit(NEW.to_numpy())
    assert not hasattr(encoder, "feature_names_in_")
    assert encoder.n_features_in_ == 2
    encoder.fit(OLD)
    assert encoder.feature_names_in_.tolist() == ["a", "n", "b"]


def test_parameters_set_during_a_fit_stay(happens):
    encoder = FieldEncoder(scaler=Meddler())
    happens["learn"] = lambda: encoder.set_params(n_jobs=2)
    assert encoder.fit(OLD).n_jobs == 2


def test_a_fit_does_not_break_a_pickle_in_another_thread(happens):
    """ "dictionary changed size during iteration": the names of columns came to an encoder that
    had none, or went."""
    encoder = FieldEncoder(scaler=Meddler()).fit(OLD.to_numpy(dtype=object))
    state = encoder.__reduce_ex__(4)[2]
    names = iter(state)
    next(names)
    encoder.fit(OLD)
    assert set(names) < set(state)
    assert said(pickle.loads(pickle.dumps(encoder)), OLD) == said(encoder, OLD)
