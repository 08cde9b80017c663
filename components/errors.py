"""The one kind of error that a user can mend."""


class UserError(Exception):
    """A mistake in settings, files or surroundings, said in one line: what, where, what to do.

    Every command prints it without a traceback and exits with code 2.
    """
