"""The one exception a user is meant to read."""


class Psi0Error(Exception):
    """A mistake or a broken input that a person can fix.

    The message names the field, file or stage and the remedy. The command line prints it on one line, without a
    traceback, and exits with `exit_code`.
    """

    exit_code = 1
