"""Results about rare events."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fpsolve._estimate import Estimate, _exp
from fpsolve._shown import Description

__all__ = ["SplittingEstimate", "log_normal_half", "student"]

Array = npt.NDArray[np.float64]


def student(degrees: int) -> float:
    """The 97.5 % quantile of Student's law."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))


def log_normal_half(logs: Array) -> float:
    """Half the width, in the logarithm, of the 95 % interval of the mean of numbers whose logarithms are given (Cox's method).

    Examples
    --------
    >>> round(log_normal_half(np.array([0.0, 0.1, -0.1, 0.05])), 3)     # t = 3.18, standard error of the logarithm 0.043
    0.136
    """
    r, variance = logs.size, float(logs.var(ddof=1))
    return student(r - 1) * math.sqrt(variance / r + variance**2 / (2.0 * (r - 1)))


@dataclass(frozen=True, eq=False, repr=False)
class SplittingEstimate(Estimate):
    """An escape rate found by adaptive multilevel splitting, with what it was made of.

    The fields of `Estimate`, and one entry per independent run in the arrays. Times are counted in steps.

    Parameters
    ----------
    log_probabilities : array (runs,)
        Logarithms of the unbiased estimates of the probability that a path which departs from A leaves the region before it
        comes back to A; -inf where all paths of a run died out.
    loop_steps : array (runs,)
        Mean steps of a loop: out of A and back.
    exit_steps : array (runs,)
        Mean steps of a loop that ends outside the region; NaN where none did.
    work : array (runs,)
        Steps made.
    n : int
        Paths per run.
    step : float
        Duration of a step in the unit of the times.
    inner : (float, float)
        Levels of the coordinate: A is where it is at most the first; a path departs where it exceeds the second.
    coordinate : str
    seed : int, optional
    partial : bool
        Whether Ctrl-C ended it: fewer runs than asked for.

    Raises
    ------
    ValueError
        As `Estimate`.

    Examples
    --------
    >>> e = SplittingEstimate(0.5, unit="1/time", log_probabilities=[-2.0, -2.2], loop_steps=[9.0, 9.0], exit_steps=[4.0, 4.0],
    ...                       work=[1e3, 1e3], n=10, step=0.1)
    >>> e.mean_time().value, round(e.probability().value, 4)
    (2.0, 0.1231)
    """

    log_probabilities: Array = dataclasses.field(default_factory=lambda: np.zeros(0))
    loop_steps: Array = dataclasses.field(default_factory=lambda: np.zeros(0))
    exit_steps: Array = dataclasses.field(default_factory=lambda: np.zeros(0))
    work: Array = dataclasses.field(default_factory=lambda: np.zeros(0))
    n: int = 0
    step: float = 1.0
    inner: tuple[float, float] = (0.0, 0.0)
    coordinate: str = ""
    seed: int | None = None
    partial: bool = False
    DESCRIBE: ClassVar[Mapping[str, Description]] = {
        **Estimate.DESCRIBE,
        "log_probabilities": ("run", "", "ln of the probability of leaving before coming back"),
        "loop_steps": ("run", "", "mean steps of a loop out of A and back"),
        "exit_steps": ("run", "", "mean steps of a loop that ends outside"),
        "work": ("run", "", "steps made"),
        "inner": ("bound", "", "levels of the coordinate that bound A and that a path departs at"),
        "step": ("", "", "duration of a step"),
    }
    DERIVED: ClassVar[Mapping[str, Description]] = {
        "probability": ("", "", "probability of leaving before coming back"),
        "mean_time": ("", "", "mean time between two exits"),
    }
    ROWS: ClassVar[str] = "run"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("log_probabilities", "loop_steps", "exit_steps", "work"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        object.__setattr__(self, "inner", (float(self.inner[0]), float(self.inner[1])))

    @property
    def runs(self) -> int:
        """Independent runs."""
        return int(self.log_probabilities.size)

    @property
    def log_rate(self) -> float:
        """Natural logarithm of the rate, also where the rate is beyond doubles."""
        return self.log_value if self.log_value is not None else math.log(self.value)

    @property
    def steps_per_decade(self) -> float:
        """Steps made per factor of ten by which the probability of one loop is below one."""
        decades = -self._log_mean() / math.log(10.0)
        return float(self.work.sum()) / decades if decades > 0.0 else math.inf

    def _log_mean(self) -> float:
        """Logarithm of the mean probability."""
        top = float(self.log_probabilities.max())
        return top + math.log(float(np.exp(self.log_probabilities - top).mean()))

    def probability(self) -> Estimate:
        """Probability that a path which departs from A leaves the region before it is back in A; its runs are unbiased."""
        log_p = self._log_mean()
        ratio = np.exp(self.log_probabilities - log_p)
        relative = float(ratio.std(ddof=1)) / math.sqrt(self.runs)
        died = bool(np.isneginf(self.log_probabilities).any())
        half = student(self.runs - 1) * relative if died else log_normal_half(self.log_probabilities)
        p = _exp(log_p)
        interval = (_exp(log_p - half), min(1.0, _exp(log_p + half)))
        return Estimate(p, stderr=p * relative, interval=interval, log_value=log_p, method=f"{self.runs} runs of {self.n} paths")

    def mean_time(self) -> Estimate:
        """The mean time between two exits, one over the rate, with the same relative errors.

        It is the mean exit time from x0 but for a time of the order of one loop, as long as A is left many times.
        """
        log_time = -self.log_rate
        value, unit = _exp(log_time), self.unit.removeprefix("1/")
        ends = None
        if self.interval is not None:
            low, high = self.interval
            ends = (1.0 / high if high > 0.0 else math.inf, 1.0 / low if low > 0.0 else math.inf)
        relative = [e / self.value if self.value > 0.0 else 0.0 for e in (self.stderr, self.discretization_error)]
        outside = value == 0.0 or math.isinf(value)
        return Estimate(
            value, stderr=0.0 if outside else value * relative[0], discretization_error=0.0 if outside else value * relative[1],
            interval=ends, log_value=log_time, unit=unit, assumptions=self.assumptions, lr=self.lr, method=self.method,
            batch=self.batch,
        )  # fmt: skip
