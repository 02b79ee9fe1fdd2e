"""Ways to train the text model, as one family: each is a schedule, a posterior or an update rule.

docs/objectives.md has the table. To add one: a small file with a subclass of `Objective`, and its name below.
"""

from collections.abc import Iterable, Mapping

from hvae_mnn.errors import TrainingError
from hvae_mnn.model.training.objectives.annealed import Annealed, Cyclical
from hvae_mnn.model.training.objectives.base import Objective, Option
from hvae_mnn.model.training.objectives.batch_norm import BatchNorm
from hvae_mnn.model.training.objectives.flow import Flow
from hvae_mnn.model.training.objectives.hierarchical import Hsr, LanguageModel, Twr
from hvae_mnn.model.training.objectives.lagging import Lagging
from hvae_mnn.model.training.objectives.learned_prior import LearnedPrior
from hvae_mnn.model.training.objectives.semi_amortised import SemiAmortised
from hvae_mnn.model.training.objectives.short_run import ShortRun
from hvae_mnn.runtime.toml import did_you_mean

__all__ = ["OBJECTIVES", "Objective", "complete_options", "find_objective"]

OBJECTIVES: Mapping[str, type[Objective]] = {
    kind.name: kind
    for kind in (
        Hsr,
        Twr,
        Annealed,
        Cyclical,
        Lagging,
        BatchNorm,
        SemiAmortised,
        ShortRun,
        LearnedPrior,
        Flow,
        LanguageModel,
    )
}


def find_objective(name: str) -> type[Objective]:
    """Return an objective by name.

    Raises:
        TrainingError: There is none.
    """
    if name not in OBJECTIVES:
        raise TrainingError(
            f"training option objective is {name!r}; expected one of {', '.join(OBJECTIVES)}"
            + (did_you_mean(name, OBJECTIVES) or ". Change it.")
        )
    return OBJECTIVES[name]


def complete_options(name: str, given: Iterable[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """Check the options of an objective and add those that are not given, in the order of their names.

    Raises:
        TrainingError: One is unknown, given twice, or outside its range.
    """
    known, pairs = find_objective(name).options, tuple(given)
    values = {key: option.default for key, option in known.items()}
    for key, value in pairs:
        if key not in known:
            names = f"expected one of {', '.join(known)}" if known else "it has none"
            raise TrainingError(
                f"objective {name} has no option {key!r}; {names}" + (did_you_mean(key, known) or ". Leave it out.")
            )
        if sum(other == key for other, _ in pairs) > 1:
            raise TrainingError(f"option {key} of objective {name} is given twice; expected once. Leave one out.")
        values[key] = _checked(f"option {key} of objective {name}", value, known[key])
    return tuple(sorted(values.items()))


def _checked(what: str, value: float, option: Option) -> float:
    if not option.least <= value <= option.most or value == float("inf") or (option.whole and value != int(value)):
        kind = "a whole number" if option.whole else "a number"
        limits = (
            f"from {option.least:g} to {option.most:g}"
            if option.most < float("inf")
            else f"of at least {option.least:g}"
        )
        raise TrainingError(f"{what} ({option.meaning}) is {value:g}; expected {kind} {limits}. Change it.")
    return int(value) if option.whole else float(value)
