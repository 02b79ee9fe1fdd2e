"""What is measured of a trial: the columns of a sweep's rows."""

from dataclasses import dataclass

LAYERS = ("encoder1", "encoder2", "decoder")


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of one trial, a mean over its sentences.

    Attributes:
        name: Column of the rows.
        label: What it is, for a figure's axis.
        unit: `share`, `steps`, `nats`, `full scale`, or empty for pure numbers.
        better: 1 where more is better, -1 where less is, 0 where neither.
    """

    name: str
    label: str
    unit: str
    better: int


METRICS: tuple[Metric, ...] = (
    Metric("agreement_free", "words equal to software, free-running", "share", 1),
    Metric("agreement_forced", "words equal to software, teacher-forced", "share", 1),
    Metric("whole", "sentences equal to software, free-running", "share", 1),
    Metric("first_divergence", "steps until the words part", "steps", 1),
    Metric("mu_shift", "rms shift of the posterior mean", "", -1),
    Metric("z_shift", "rms shift of z", "", -1),
    Metric("kl_shift", "KL of hardware's posterior from software's", "nats", -1),
    Metric("reconstruction", "reconstruction, -log p(x | z)", "nats", -1),
    Metric("kl", "KL of the posterior from the prior", "nats", 0),
    Metric("elbo", "NLL on hardware, ELBO", "nats", -1),
    *(Metric(f"rms_{layer}", f"rms read error of {layer}", "full scale", -1) for layer in LAYERS),
    *(Metric(f"clipped_in_{layer}", f"inputs of {layer} that clip", "share", -1) for layer in LAYERS),
    *(Metric(f"clipped_out_{layer}", f"column sums of {layer} that clip", "share", -1) for layer in LAYERS),
)
