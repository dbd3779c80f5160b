"""The one error that bad input raises: files, folders, images, annotations."""


class InputError(ValueError):
    """Bad input from the user: the command line prints its one line and exits with 2.

    The message says what is wrong, what was expected, what was received, and what to do.
    """
