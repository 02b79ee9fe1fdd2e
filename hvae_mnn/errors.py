"""What goes wrong for a reason a user can act on.

Every message names the thing (file, option, key), says what was found, what was expected
and what to do. The command line prints it as one line and exits with 1. Anything that is
not a `UserError` is a bug and keeps its traceback.
"""


class UserError(Exception):
    """Base of every error that a user can mend."""


class HardwareError(UserError, ValueError):
    """A hardware configuration that is malformed or physically inconsistent."""


class CorpusError(UserError, ValueError):
    """A corpus folder or name that cannot be read as one."""


class SentenceError(UserError, ValueError):
    """A sentence that the model cannot encode."""


class CheckpointError(UserError, ValueError):
    """A checkpoint that is not one, disagrees with itself or could not be trusted."""


class TrainingError(UserError, RuntimeError):
    """A training run that cannot start or continue."""


class StudyError(UserError, ValueError):
    """A table of models to train that is malformed, or does not agree with what was trained for it."""


class SweepError(UserError, ValueError):
    """A plan of a sweep that is malformed, or asks for what cannot be swept."""


class ArtifactError(UserError, ValueError):
    """A Build or Run folder that is missing, foreign, incomplete or of another version."""


class EngineError(UserError, RuntimeError):
    """A circuit engine that is missing, too old, died or did not converge."""
