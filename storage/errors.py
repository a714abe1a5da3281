"""The one error that carries words for people; it lives at the bottom so that every layer may raise it."""


class PublicError(Exception):
    """A plain sentence that says what is wrong and what to do; shown as it stands, without a traceback."""
