"""HVAE-MNN: circuit-level SPICE co-simulation of memristive recurrent text VAEs.

The flow, a function each (see docs/architecture.md):

    model.training.train              Corpus -> Checkpoint
    compiler.pipeline.compile_model   Checkpoint, HardwareConfig -> Build
    simulate.simulate_sentence        Build, sentence -> Run
    plot.plot_artifact                Build | Run -> figure
"""

from importlib.metadata import version

__version__ = version("hvae-mnn")
