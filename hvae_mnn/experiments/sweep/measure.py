"""A sweep in one call: axes of a hardware, many dies, one model."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hvae_mnn.compiler.shipped import open_model
from hvae_mnn.errors import SweepError
from hvae_mnn.experiments.sweep.plan import DEFAULT_TRIALS, Axis, Study
from hvae_mnn.experiments.sweep.run import SweepSettings, make_plan, run_sweep
from hvae_mnn.experiments.sweep.sentences import choose_corpus, draw_sentences
from hvae_mnn.experiments.sweep.store import Sweep
from hvae_mnn.hardware.files import load_hardware
from hvae_mnn.model.checkpoint import Checkpoint
from hvae_mnn.runtime.progress import Progress


def _make_study(axes: Mapping[str, Sequence[Any]], trials: int) -> Study:
    try:
        if any(isinstance(values, str) for values in axes.values()):
            raise SweepError("the values of an axis are a string; expected a list of values")
        listed = tuple(Axis(key=key, values=tuple(values)) for key, values in axes.items())
        return Study(name="sweep", axes=listed, trials=trials)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise SweepError(f"sweep: {place} is {problem['input']!r}; {problem['msg']}") from None
    except (TypeError, AttributeError) as error:
        raise SweepError(f"sweep: axes are {axes!r}; expected a list of values for each key ({error})") from None


def sweep(
    model: Checkpoint | str | Path,
    axes: Mapping[str, Sequence[Any]],
    out: str | Path,
    *,
    hardware: str = "default",
    overrides: str | Iterable[str] = (),
    trials: int = DEFAULT_TRIALS,
    corpus: str | Path | None = None,
    sentences: int = 100,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Measure what variation of a hardware costs, over many dies; an interrupted sweep of the same goes on.

        found = sweep("grammar", {"device.sigma": [0, 0.02, 0.05]}, "sweep", trials=20)
        found.rows.groupby("device.sigma").agreement_free.mean()

    Args:
        model: A checkpoint, its file, or the name of a shipped model.
        axes: Values of each key of the hardware, `section.key`; several make a grid.
        out: Folder of the Sweep.
        hardware: Preset or file of what is varied.
        overrides: `section.key=value`, one or several changes of the hardware.
        trials: Dies at each point.
        corpus: Where test sentences are from: `grammar`, or a folder; what the model was trained on if not given.
        sentences: Test sentences to draw.
        seed: Seed of the draw and of the latents' noise; trial t is the die of `device.seed = seed + t`.
        workers: Processes to measure with; as many as cores if not given.
        progress: Called with a stage, how much is done and how much there is.

    Raises:
        HardwareError: A point's hardware is refused.
        SweepError: The axes contradict themselves, or the model can read none of the corpus.
        ArtifactError: The folder holds another sweep or something else, or the disk fails.
    """
    changes = (overrides,) if isinstance(overrides, str) else tuple(overrides)
    name = str(model)
    checkpoint = model if isinstance(model, Checkpoint) else open_model(name)
    if isinstance(model, Checkpoint):
        name = model.content_hash()[:12]
    study = _make_study(axes, trials)
    if sentences < 1:
        raise SweepError(f"sweep: sentences is {sentences}; expected at least 1")
    drawn = draw_sentences(checkpoint, str(corpus) if corpus else choose_corpus(checkpoint), sentences, seed)
    plan, points = make_plan(
        checkpoint,
        load_hardware(hardware, changes),
        (study,),
        drawn,
        model_name=name,
        hardware_name=" ".join((hardware, *changes)),
        seed=seed,
    )
    return run_sweep(plan, points, checkpoint, drawn, Path(out), SweepSettings(workers), progress=progress)
