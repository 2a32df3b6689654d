"""The exceptions a user is meant to see: a clear sentence, no traceback."""

_LONGEST = 2_000


class FedsimError(Exception):
    """Something the user can mend: bad input, a missing file, a damaged checkpoint.

    The message is one sentence that names the file, key or line and says what to do. The command
    line prints it and exits with status 2.
    """

    def __str__(self) -> str:
        """The sentence on one line, whatever the file names and values that it quotes hold.

        Line ends, terminal escapes and halves of surrogate pairs (which cannot even be printed)
        become U+FFFD, and a quoted value of any size leaves a message that can be read.
        """
        said = super().__str__()
        if len(said) > _LONGEST:
            said = f"{said[: _LONGEST // 2]} ... {said[-_LONGEST // 2 :]}"
        return "".join(char if char.isprintable() else "\ufffd" for char in said)


def last_line(reason: str) -> str:
    """What a traceback, or another account of a failure, says at its end."""
    return reason.strip().splitlines()[-1]


class EngineLost(FedsimError):
    """The engine cannot go on but a new one could: the run resumes from its newest state."""
