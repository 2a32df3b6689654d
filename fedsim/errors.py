"""The exceptions a user is meant to see: a clear sentence, no traceback."""


class FedsimError(Exception):
    """Something the user can mend: bad input, a missing file, a damaged checkpoint.

    The message is one sentence that names the file, key or line and says what to do. The command
    line prints it and exits with status 2.
    """


class EngineLost(FedsimError):
    """The engine cannot go on but a new one could: the run resumes from its newest state."""
