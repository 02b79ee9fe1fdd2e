"""Commands about devices and this machine: device, doctor."""

import json
from pathlib import Path

import click

from hvae_mnn.cli.command import Command
from hvae_mnn.cli.options import FOLDER, hardware_option, json_option, name_hardware, set_option
from hvae_mnn.reports.terminal import print_device, print_table


@click.command(cls=Command, epilog="hvae-mnn device --hardware aist-low-g --out device.png")
@hardware_option
@set_option
@click.option(
    "--out", type=FOLDER, default=Path("device.png"), show_default=True, help="Figure to write (png, pdf, svg)."
)
@json_option
def device(hardware: str, overrides: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Show what a memristor does.

    Runs the dynamic memristor of a hardware in ngspice: its current-voltage loops under a sine,
    and potentiation and depression by equal pulses.
    """
    from hvae_mnn.experiments.device import characterise
    from hvae_mnn.hardware.files import load_hardware
    from hvae_mnn.reports.figures.style import check_format, save_figure
    from hvae_mnn.reports.plot import plot_device

    check_format(out)
    curves = characterise(load_hardware(hardware, overrides), name_hardware(hardware, overrides))
    save_figure(plot_device(curves), out)
    if as_json:
        click.echo(json.dumps(curves.to_json()))
    else:
        print_device(curves)
        click.echo(f"wrote {out}", err=True)


@click.command(cls=Command, epilog="hvae-mnn doctor")
@json_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Say what this machine has.

    Names what to install; the exit code is 1 where something is missing.
    """
    from hvae_mnn.engines.doctor import examine

    findings = examine()
    if as_json:
        click.echo(json.dumps({finding.name: finding.value for finding in findings}))
    else:
        print_table({f.name: f.text if f.ok else f"MISSING: {f.text}" for f in findings})
    if not all(finding.ok for finding in findings):
        context.exit(1)
