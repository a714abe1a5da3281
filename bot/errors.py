"""What goes wrong in words for people.

Only a `PublicError` carries a sentence that may be shown in Slack or the terminal; everything else is a bug and a traceback.
"""

from storage.errors import PublicError

__all__ = ["ModelUnavailable", "PublicError"]


class ModelUnavailable(Exception):
    """This model cannot answer now; the desk asks the next one. The message says why, for `doctor` and the log."""
