"""What `evaluate` prints: columns beside each other, and how to read them."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hvae_mnn.model.evaluation.gaps import DecoderGaps, Gap, Gaps
    from hvae_mnn.model.evaluation.protocols import Estimate, Evaluation, HonestColumn, Measured

_LABEL, _VALUE = 44, 10
_SHOWN = (50, 500)  # draws of z of which the table has a row
_OWN = {
    "encoder": "q of the encoder",
    "svi": "q refined from the encoder's",
    "langevin": "q fitted after Langevin steps",
}

Row = tuple[str, str, str]


def print_evaluation(found: "Evaluation") -> None:
    """Print the `paper` and the `honest` column side by side, hardware's beside software's, and how to read them."""
    click.echo(f"{found.model} (latent mode {found.latent_mode}) on {found.sentences} test sentences of {found.corpus}")
    sides = [side for side in (found.software, found.hardware) if side is not None]
    if sides:
        _print_columns(found, sides)
    else:
        click.echo(f"{'nats a sentence':<{_LABEL}}{'honest':>{_VALUE}}")
    if found.plain is not None:
        width = _LABEL + max(0, 2 * len(sides) - 1) * _VALUE
        if not sides:
            click.echo(f"{'tokens a sentence':<{width}}{found.plain.tokens:>{_VALUE}.3f}")
        for label, _, value in _estimate_rows("NLL of a plain language model, exact", found.plain):
            click.echo(f"{label:<{width}}{value:>{_VALUE}}")
    if found.over_plain is not None:
        label = "honest NLL less the language model's"
        click.echo(f"{label:<{_LABEL}}{_show(found.over_plain):>{2 * len(sides) * _VALUE}}")
    if found.gaps is not None:
        _print_gaps(found.gaps, found.posterior)
    for name, side in zip(("software", "hardware"), sides, strict=False):
        _print_said(side, name if len(sides) > 1 else "")
    _print_notes(found)


def _print_columns(found: "Evaluation", sides: "Sequence[Measured]") -> None:
    """Print figures, a column a protocol and side."""
    heads = [f"{protocol:>{_VALUE * len(sides)}}" for protocol in ("paper", "honest")]
    click.echo(f"{'nats a sentence':<{_LABEL}}{''.join(heads)}")
    if len(sides) > 1:
        click.echo(" " * _LABEL + "".join(f"{name:>{_VALUE}}" for name in ("software", "hardware") * 2))
    tables = [_evaluation_rows(side) for side in sides]
    for rows in zip(*tables, strict=True):
        values = [row[place] for place in (1, 2) for row in rows]
        click.echo(f"{rows[0][0]:<{_LABEL}}" + "".join(f"{value:>{_VALUE}}" for value in values))
    if found.change is not None:
        label = "honest NLL, hardware less software"
        click.echo(f"{label:<{_LABEL}}{_show(found.change):>{2 * len(sides) * _VALUE}}")
    for name, side in zip(("software", "hardware"), sides, strict=False):
        line = ", ".join(f"{estimate.nll:.2f} ({k})" for k, estimate in side.honest.importance.items())
        click.echo(f"{'' if len(sides) == 1 else name + ': '}NLL by draws of z: {line}")


def _evaluation_rows(side: "Measured") -> "list[Row]":
    from hvae_mnn.model.evaluation.protocols import tokens_counted

    paper, honest, quality = side.paper, side.honest, side.quality
    bound = honest.elbo
    counted = tokens_counted(paper.nll, paper.perplexity), tokens_counted(bound.nll, bound.perplexity)
    rows = [
        ("tokens a sentence", f"{paper.tokens:.3f}", f"{honest.tokens:.3f}"),
        ("words unknown to the model", f"{paper.unknown:.1%}", f"{honest.unknown:.1%}"),
        ("reconstruction", f"{paper.reconstruction:.2f}", f"{honest.reconstruction:.2f}"),
        ("KL charged", f"{paper.kl:.2f}", f"{honest.kl:.2f}"),
        ("NLL = reconstruction + KL", f"{paper.nll:.2f}", f"{bound.nll:.2f}"),
        ("    standard error", "", f"{bound.standard_error:.2f}"),
        ("    perplexity", f"{paper.perplexity:.2f}", f"{bound.perplexity:.2f}"),
        ("    NLL / ln perplexity = tokens counted", f"{counted[0]:.3f}", f"{counted[1]:.3f}"),
    ]
    for k in _SHOWN:
        if k in honest.importance:
            rows += _estimate_rows(f"NLL, importance-weighted, k = {k}", honest.importance[k])
    mean, drawn = quality.mean, quality.sampled
    return [
        *rows,
        ("NLL with z from the prior", "", f"{honest.prior.nll:.2f}"),
        ("MI", f"{paper.mutual_information:.2f}", f"{honest.mutual_information:.2f}"),
        ("    its ceiling", f"{paper.ceiling:.2f}", f"{honest.ceiling:.2f}"),
        (f"active units of {honest.latent}", "", f"{honest.active_units}"),
        ("tokens right, teacher-forced", f"{mean.forced:.1%}", f"{drawn.forced:.1%}"),
        ("tokens right, free-running", f"{mean.free:.1%}", f"{drawn.free:.1%}"),
        ("sentences said again whole", f"{mean.exact:.1%}", f"{drawn.exact:.1%}"),
        ("BLEU-4 of what is said freely", f"{100 * mean.bleu:.2f}", f"{100 * drawn.bleu:.2f}"),
    ]


def _estimate_rows(label: str, estimate: "Estimate") -> "list[Row]":
    return [
        (label, "", f"{estimate.nll:.2f}"),
        ("    standard error", "", f"{estimate.standard_error:.2f}"),
        ("    perplexity", "", f"{estimate.perplexity:.2f}"),
    ]


def _print_gaps(gaps: "Gaps", posterior: str) -> None:
    """Print the inference gaps, a column a decoder."""
    decoders = [each for each in (gaps.software, gaps.hardware) if each is not None]
    names = ("software", "hardware")[: len(decoders)]
    title = f"inference gaps, nats, {gaps.sentences} sentences"
    click.echo(f"{title:<{_LABEL}}" + "".join(f"{name + ' decoder':>20}" for name in names))
    for label, values in _gap_rows(gaps, decoders, posterior):
        click.echo(f"{label:<{_LABEL}}" + "".join(f"{_show(each):>20}" for each in values))


def _show(gap: "Gap | None") -> str:
    return "" if gap is None else f"{gap.value:.2f} +- {gap.standard_error:.2f}"


def _gap_rows(
    gaps: "Gaps", decoders: "Sequence[DecoderGaps]", posterior: str
) -> "Iterator[tuple[str, list[Gap | None]]]":
    draws = ", ".join(str(each.draws) for each in decoders)
    yield f"log p(x), importance-weighted, k = {draws}", [each.log_p for each in decoders]
    yield "L[q*], the best diagonal Gaussian", [each.best for each in decoders]
    if gaps.hardware is None:
        yield f"L[q], {_OWN[posterior]}", [gaps.software.encoded]
    else:
        yield "L[q] of the software encoder", [gaps.software.encoded, None]
        yield "L[q] of the hardware encoder", [gaps.crossed, gaps.hardware.encoded]
    yield "approximation gap, log p(x) - L[q*]", [each.approximation for each in decoders]
    own = ", own encoder" if gaps.hardware is not None else ""
    yield f"amortisation gap, L[q*] - L[q]{own}", [each.amortisation for each in decoders]
    if gaps.hardware is not None:
        yield "what the hardware of the encoder adds to it", [gaps.encoder_cost, None]


def _print_said(side: "Measured", name: str) -> None:
    """Print samples and an interpolation."""
    head = f"{name}: " if name else ""
    if side.samples:
        click.echo(f"{head}said from z drawn from the prior")
        for text in side.samples:
            click.echo(f"  {text}")
    if (way := side.interpolation) is not None:
        click.echo(f"{head}said on the straight line between the posterior means of two test sentences")
        for mark, text in (("from", way.first), *(("", text) for text in way.said), ("to", way.last)):
            click.echo(f"  {mark:<6}{text}")


def _print_notes(found: "Evaluation") -> None:
    if found.software is None:
        click.echo("A plain language model: no latent, so its NLL is no bound but exact, and there is no KL and no MI.")
        return
    if found.plain is None:
        click.echo(
            "NLL of a plain language model: none given. Repeat the model's training command with --objective lm\n"
            "and another --out, and give that file as --language-model FILE."
        )
    _print_honest_notes(found, found.software.honest)
    click.echo(
        f"tokens right, sentences and BLEU (0 to 100, not smoothed) on {found.software.quality.sentences} sentences:\n"
        "in `paper` with z at its mean, in `honest` with z sampled."
    )
    click.echo(
        "paper: TWR-VAE's way of counting, for comparison with published tables: the text split again; words, <eos>\n"
        "and <sos> counted (<sos> is given: it costs 0 nats and adds a token); z at its mean; KL averaged over steps.\n"
        "It is not a bound on -log p(x): no claim follows from this column."
    )
    if (row := found.published) is not None:
        click.echo(
            f"published for this split, counted as in `paper`: {row.name}: NLL {row.nll}, perplexity {row.perplexity}, "
            f"KL {row.kl},\n{row.tokens} tokens a sentence; baselines of the same table counted {row.baseline_tokens}"
        )
    if found.hardware is not None:
        _print_hardware_notes(found, found.hardware)


def _print_honest_notes(found: "Evaluation", honest: "HonestColumn") -> None:
    for name, side in (("", found.software), (" on hardware", found.hardware)):
        if side is not None and (column := side.honest).kl_steps:
            places = [(read, read - column.kl_first) for read in (1, 2, 5, 10, 20, 40)]
            shown = [(read, column.kl_steps[at]) for read, at in places if 0 <= at < len(column.kl_steps)]
            curve = ", ".join(f"{kl:.2f} ({read})" for read, kl in shown)
            click.echo(f"KL of the posterior after so many tokens{name}: {curve}; {column.kl_end:.2f} (<eos>)")
    click.echo(
        "honest: words and <eos> of the file as it is; z sampled; KL of the latents that drive the decoder in full:\n"
        f"bounds. Importance weighting: {honest.importance_sentences} sentences drawn by seed {found.seed}; "
        "the bound over all sentences less its mean gain on these."
    )
    click.echo(
        f"MI: honest over all {found.sentences} sentences, paper within 64. Near its ceiling it says only that there "
        "were too few\nsentences to tell."
    )


def _print_hardware_notes(found: "Evaluation", side: "Measured") -> None:
    click.echo(
        f"hardware: {found.hardware_name}.\n"
        "Its encoder is the q and its decoder the p(x given z) of its bounds; with read noise, bounds in expectation.\n"
        f"Importance weighting: k at most {max(side.honest.importance)}, the same noise on both. Software counts in "
        "float64 here."
    )
    if found.posterior == "svi":
        click.echo(
            "Posteriors are the encoder's own on both: a circuit takes no gradient steps, nor does software here."
        )
