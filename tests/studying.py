"""What tests of studies share: a corpus of random words, small models, and a run without a screen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hvae_mnn.experiments.model_table.plan import ModelStudy, read_study
from hvae_mnn.experiments.model_table.run import Screen, run_study

COMMON = 'preset = "grammar"\nembedding = 8\nhidden = 6\nlatent = 4\nepochs = 2\nbatch = 16\nseed = 3\n'
TWO_ROWS = COMMON + '[row.vae]\nobjective = "vae"\n[row.lm]\nobjective = "lm"\n'
IMPORTANCE = 4


def write_corpus(folder: Path, seed: int, words: Sequence[str] = tuple("abcdefgh")) -> Path:
    """Write a corpus of random words."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for split, count in (("train", 60), ("valid", 20), ("test", 20)):
        lines = [" ".join(rng.choice(words, rng.integers(2, 7))) for _ in range(count)]
        (folder / f"words.{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


def parse_study(folder: Path, text: str) -> ModelStudy:
    """Read a study from text."""
    path = folder / "study.toml"
    path.write_text(text)
    return read_study(path)


def run_rows(
    study: ModelStudy, words: Path, out: Path, told: list[str] | None = None, **options: Any
) -> list[dict[str, Any]]:
    """Run a study with few draws and without a screen; `told` takes the lines of rows."""
    screen = Screen() if told is None else Screen(tell=told.append)
    return run_study(study, words, out, **{"importance_sentences": IMPORTANCE, "screen": screen, **options})
