"""What a fit by sweeps shows while it runs: a line per sweep, or a bar.

Nothing is computed here; the record of a sweep comes from its solver.
"""

from __future__ import annotations

from typing import Any, Self

from tqdm.auto import tqdm

from ...training.history import print_record

__all__ = ["Progress"]


class Progress:
    """Shows sweeps to the user; a context manager, which closes the bar.

    Parameters
    ----------
    verbose : int
        Nothing at 0, a line per sweep at 1, a bar from 2 on.
    n_sweeps : int
        Sweeps to come.
    phase : {"search", "fit"}
        Which run over the rows they are.
    """

    def __init__(self, verbose: int, n_sweeps: int, phase: str = "fit") -> None:
        self.prints, self.phase = verbose == 1, phase
        self.bar = tqdm(total=n_sweeps, unit="epoch", disable=verbose < 2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.close()

    def show(self, record: dict[str, float]) -> None:
        """Show a sweep.

        Parameters
        ----------
        record : dict of str to float
            Row of the history. Scales, of which there are as many as vocabularies, stay there.
        """
        few = {name: value for name, value in record.items() if not name.startswith("scale_")}
        if self.prints:
            rest = {name: value for name, value in few.items() if name not in ("epoch", "phase")}
            print_record({"epoch": few["epoch"], "phase": self.phase, **rest})
        self.bar.set_postfix({k: v for k, v in few.items() if k.endswith("_loss")}, refresh=False)
        self.bar.update()
