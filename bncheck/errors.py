"""What bncheck raises on purpose."""


class BNCheckError(Exception):
    """Base of every error that bncheck raises on purpose.

    Its text is one clear sentence that says what to do; the command line prints that sentence
    and exits with 2.
    """
