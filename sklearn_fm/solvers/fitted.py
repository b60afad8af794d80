"""What a solver found: weights and all that is needed to predict, to go on, and to be judged.

Plain values and numpy arrays. Which X and y they are for is known to ``estimators``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from .. import __version__
from ..models.contract import FieldModel
from ..schema import FieldSchema
from ..training.losses import Loss
from ..training.prediction import pack_tables, predict_encoded
from .blend import Blend, as_raw
from .gibbs.averaging import Mean
from .gibbs.links import Link
from .gibbs.posterior import Posterior, Raw
from .problem import ModelSpec, Task

__all__ = ["Draws", "Fitted", "Outcome", "fitted_module"]


def _cpu() -> torch.device:
    return torch.device("cpu")


@dataclass(frozen=True)
class Draws:
    """What solver "gibbs" found besides a machine that says what all draws say on average.

    Attributes
    ----------
    posterior : Posterior
        Draws that are kept.
    mean : Mean
        What is known of that machine.
    link : Link
        From raw predictions by draws to predictions.
    is_complete : bool
        Whether all draws are kept, so that predictions are by them; otherwise they are some, which
        tell how raw predictions spread around those of the module.
    n_burn : int
        First sweeps that predictions leave out.
    convergence : DataFrame
        Split R-hat and effective sample size of what was watched.
    chain : dict
        Where the chain stands, to go on from.
    """

    posterior: Posterior
    mean: Mean
    link: Link
    is_complete: bool
    n_burn: int
    convergence: pd.DataFrame
    chain: dict[str, Any]

    def linear_deviations(self) -> NDArray[np.float32]:
        """Standard deviations of the linear term's weights, (table_size, n_outputs).

        Of what was not seen, the prior's own variance goes into them.
        """
        posterior, square = self.posterior, self.mean.deviations**2
        n_blocks = posterior.n_blocks
        square[:, n_blocks:] += posterior.covariances[:, :, :, -1, -1].mean(axis=0)
        return np.sqrt(square[:, posterior.positions].T)


@dataclass(frozen=True)
class Fitted:
    """A fitted model, without what it takes to encode X and y.

    Attributes
    ----------
    spec : ModelSpec
        Which module.
    weights : dict of ndarray
        Parameters and buffers of the module by name; once it is built, views of its memory, or
        nothing where that is not the CPU's.
    task : Task
        What is predicted.
    loss : Loss
        Its link, at the scale of the first fit's target.
    solver : str
        Solver that was used.
    reason : str
        Why this one.
    history : DataFrame
        One row per epoch.
    n_epochs : int
        Epochs behind the weights.
    first_schema : FieldSchema
        The fields before any vocabulary grew.
    chosen : dict
        Arguments of the module as the user gave them; a mean over draws has another width.
    priors : dict of float
        Precisions where "auto" found some, by name.
    seen_weight : float
        Weight of all rows trained on, now and before.
    state : dict or None
        What the solver remembers for `partial_fit` to go on.
    draws : Draws or None
        Of solver "gibbs".
    blend : Blend or None
        What stands beside them, and weights of both.
    version : str
        Version of this package that wrote it.
    """

    spec: ModelSpec
    weights: dict[str, NDArray[Any]]
    task: Task
    loss: Loss
    solver: str
    reason: str
    history: pd.DataFrame
    n_epochs: int
    first_schema: FieldSchema
    chosen: dict[str, Any]
    priors: dict[str, float] = field(default_factory=dict)
    seen_weight: float = 0.0
    state: dict[str, Any] | None = None
    draws: Draws | None = None
    blend: Blend | None = None
    version: str = __version__

    # -- the module ----------------------------------------------------------------------

    def module(self, find_device: Callable[[], torch.device] = _cpu) -> FieldModel:
        """Torch module with these weights; built once.

        Parameters
        ----------
        find_device : callable, default=the CPU
            Tells where, if it is not built yet.

        Returns
        -------
        FieldModel
            In evaluation mode.
        """
        found = vars(self).get("_module")
        return found if found is not None else self._build(find_device())

    def _build(self, device: torch.device) -> FieldModel:
        with _BUILDING:
            if "_module" not in vars(self):
                if device.type == "mps" and self.weights["bias"].dtype == np.float64:
                    device = _cpu()  # which alone has such numbers
                module = self.spec.build("meta")
                state = {name: torch.from_numpy(_own(a)) for name, a in self.weights.items()}
                module.load_state_dict(state, assign=True)
                del state
                self._keep(pack_tables(module.eval().to(device)))
            return vars(self)["_module"]

    def _keep(self, module: FieldModel) -> None:
        """Hold a module whose memory the weights are views of, for threads that read all the time.

        Weights from before stay what they are: another thread may be pickling them.
        """
        weights = _as_arrays(module) if module.bias.device.type == "cpu" else {}
        vars(self).update(_module=module, weights=weights)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        module = state.pop("_module", None)
        if module is not None:  # the user may have changed it
            state["weights"] = _as_arrays(module)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        lacks = _what_lacks(self)
        if lacks:
            raise ValueError(
                f"This model was written by another state of sklearn_fm (version "
                f"{state.get('version', 'unknown')}; this is {__version__}): it lacks "
                f"{', '.join(lacks)}. Load it with the version that wrote it, or fit anew."
            )

    # -- predictions ---------------------------------------------------------------------

    def raw(
        self, encoded: Any, n_threads: int = 1, find_device: Callable[[], torch.device] = _cpu
    ) -> NDArray[np.floating]:
        """Raw predictions of encoded rows.

        Parameters
        ----------
        encoded : FieldArray or csr_array
            Rows encoded under the schema of `spec`.
        n_threads : int, default=1
            Threads for compiled kernels.
        find_device : callable, default=the CPU
            Tells where the module goes if it is not built yet.

        Returns
        -------
        ndarray of shape (n_rows, C)
        """
        raw = self._raw_alone(encoded, n_threads, find_device)
        if self.blend is None or self.blend.deep is None:
            return raw
        deep = self.blend.deep
        beside = as_raw(deep, deep.raw(encoded, n_threads, find_device), self.loss)
        return self.blend.mix(raw, beside, self.loss, self.task)

    def _raw_alone(
        self, encoded: Any, n_threads: int, find_device: Callable[[], torch.device]
    ) -> NDArray[np.floating]:
        """Raw predictions without what stands beside the draws."""
        draws = self.draws
        if draws is None or (draws.link.is_linear and not draws.is_complete):
            return predict_encoded(self.module(find_device), encoded, n_threads)
        parts = self.raw_by_draws(encoded, n_threads, find_device)
        return np.concatenate([draws.link.mean(raw) for _, raw in parts])

    def raw_by_draws(
        self, encoded: Any, n_threads: int = 1, find_device: Callable[[], torch.device] = _cpu
    ) -> Iterator[tuple[Any, Raw]]:
        """Rows, in pieces, with raw predictions by all draws, or by some around the module's.

        Parameters
        ----------
        encoded : FieldArray or csr_array
            Rows encoded under the schema of `spec`.
        n_threads : int, default=1
            Threads for compiled kernels.
        find_device : callable, default=the CPU
            Tells where the module goes if it is not built yet.

        Yields
        ------
        encoded : FieldArray or csr_array
            Some of the rows.
        raw : Raw
            Of these.
        """
        assert self.draws is not None
        for raw in self.draws.posterior.raw(encoded, n_threads):
            part = encoded if len(raw.mean) == encoded.shape[0] else encoded[raw.rows]
            if not self.draws.is_complete:
                center = predict_encoded(self.module(find_device), part, n_threads)
                raw = raw.around(center)
            yield part, raw


class Outcome(NamedTuple):
    """What a solver returns.

    Attributes
    ----------
    fitted : Fitted
        What it found.
    stopped_by : BaseException or None
        What cut it short: a DivergenceError or KeyboardInterrupt.
    warning : str or None
        What the user should know.
    path : list of dict or None
        Priors and learning rates of the epochs behind the weights, for `Problem.path`.
    """

    fitted: Fitted
    stopped_by: BaseException | None = None
    warning: str | None = None
    path: list[dict[str, Any]] | None = None


def fitted_module(module: FieldModel, **values: Any) -> Fitted:
    """Fitted that holds a trained module.

    Parameters
    ----------
    module : FieldModel
        Trained; laid out for prediction in place.
    **values
        Other attributes of Fitted.

    Returns
    -------
    Fitted
    """
    fitted = Fitted(weights={}, **values)
    fitted._keep(pack_tables(module.eval()))
    return fitted


_BUILDING = threading.Lock()


def _what_lacks(fitted: Fitted) -> list[str]:
    """Names of attributes that an older pickle of a model, or of its draws, has no values of."""
    parts: list[Any] = [fitted]
    if getattr(fitted, "draws", None) is not None:
        parts.append(fitted.draws)
        parts += [getattr(fitted.draws, name, None) for name in ("posterior", "mean", "link")]
    return [
        f"{type(part).__name__}.{attribute.name}"
        for part in parts
        if part is not None
        for attribute in fields(part)
        if not hasattr(part, attribute.name)
    ]


def _as_arrays(module: FieldModel) -> dict[str, NDArray[Any]]:
    return {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}


def _own(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or a copy of one that torch must not write to, such as a memory map."""
    return array if array.flags.writeable else np.array(array)
