"""HVAE-MNN: circuit-level SPICE co-simulation of memristive recurrent text VAEs.

    import hvae_mnn as hm

    build = hm.compile("grammar", "default", "build")
    run = hm.simulate(build, "this child carries his clock")
    print(run.software.text, run.hardware.text, run.agreement)

`_HOMES` lists the package's public names in the order in which one meets them; each is loaded from its module the
first time it is asked for, so that `import hvae_mnn` is quick and torch is loaded by those alone that need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hvae_mnn.runtime.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from hvae_mnn.compiler.build import Build, load_build, save_build
    from hvae_mnn.compiler.compile import compile
    from hvae_mnn.compiler.shipped import open_model
    from hvae_mnn.engines.open import open_engine
    from hvae_mnn.errors import UserError
    from hvae_mnn.experiments.calibrate import calibrate_build as calibrate
    from hvae_mnn.experiments.explain import Explanation
    from hvae_mnn.experiments.explain import explain_run as explain
    from hvae_mnn.experiments.program import program_build as program
    from hvae_mnn.experiments.programmed import Programmed, load_programmed
    from hvae_mnn.experiments.prune import prune_model as prune
    from hvae_mnn.experiments.sweep.measure import sweep
    from hvae_mnn.experiments.sweep.store import Sweep, load_sweep
    from hvae_mnn.hardware.config import HardwareConfig
    from hvae_mnn.hardware.files import load_hardware
    from hvae_mnn.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from hvae_mnn.model.evaluation.evaluate import evaluate
    from hvae_mnn.model.evaluation.protocols import Evaluation
    from hvae_mnn.model.text.corpus import Corpus, load_corpus
    from hvae_mnn.model.training.settings import TrainConfig, make_config
    from hvae_mnn.model.training.train import train
    from hvae_mnn.reports.plot import plot
    from hvae_mnn.simulation.run import Run, load_run, save_run
    from hvae_mnn.simulation.sentence import simulate_sentence as simulate

_HOMES = {
    # the trained network
    "Corpus": "model.text.corpus",
    "load_corpus": "model.text.corpus",
    "TrainConfig": "model.training.settings",
    "make_config": "model.training.settings",
    "train": "model.training.train",
    "Checkpoint": "model.checkpoint",
    "load_checkpoint": "model.checkpoint",
    "save_checkpoint": "model.checkpoint",
    "open_model": "compiler.shipped",
    "Evaluation": "model.evaluation.protocols",
    "evaluate": "model.evaluation.evaluate",
    "prune": "experiments.prune:prune_model",
    # its circuit
    "HardwareConfig": "hardware.config",
    "load_hardware": "hardware.files",
    "Build": "compiler.build",
    "compile": "compiler.compile",
    "load_build": "compiler.build",
    "save_build": "compiler.build",
    "calibrate": "experiments.calibrate:calibrate_build",
    "Programmed": "experiments.programmed",
    "program": "experiments.program:program_build",
    "load_programmed": "experiments.programmed",
    # what comes out
    "open_engine": "engines.open",
    "Run": "simulation.run",
    "simulate": "simulation.sentence:simulate_sentence",
    "load_run": "simulation.run",
    "save_run": "simulation.run",
    "Explanation": "experiments.explain",
    "explain": "experiments.explain:explain_run",
    "Sweep": "experiments.sweep.store",
    "sweep": "experiments.sweep.measure",
    "load_sweep": "experiments.sweep.store",
    "plot": "reports.plot",
    "UserError": "errors",
}
"""The module of each public name, and the name it has there where that is another."""

__all__ = [
    "Build",
    "Checkpoint",
    "Corpus",
    "Evaluation",
    "Explanation",
    "HardwareConfig",
    "Programmed",
    "Run",
    "Sweep",
    "TrainConfig",
    "UserError",
    "__version__",
    "calibrate",
    "compile",
    "evaluate",
    "explain",
    "load_build",
    "load_checkpoint",
    "load_corpus",
    "load_hardware",
    "load_programmed",
    "load_run",
    "load_sweep",
    "make_config",
    "open_engine",
    "open_model",
    "plot",
    "program",
    "prune",
    "save_build",
    "save_checkpoint",
    "save_run",
    "simulate",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module it lives in, the first time it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, original = _HOMES[name].partition(":")
    found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), original or name)
    return found


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
