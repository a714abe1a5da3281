"""What goes wrong in words for people.

Only a `PublicError` carries a sentence that may be shown in Slack or the terminal; everything else is a bug and a traceback.
"""

from storage.errors import PublicError

__all__ = ["BudgetSpent", "ModelUnavailable", "PublicError", "ToldToAsker", "TooLongFor", "Withheld"]


class ModelUnavailable(Exception):
    """This model cannot answer now; the desk asks the next one. The message says why, for `doctor` and the log.

    `fault` says whether that speaks against the model's provider (the circuit breaker counts it), `again` that the same
    model may well answer if it is asked once more, such as a worker that was killed and is started anew.
    """

    def __init__(self, reason: str, *, fault: bool = True, again: bool = False) -> None:
        super().__init__(reason)
        self.fault = fault
        self.again = again


class ToldToAsker(ModelUnavailable):
    """Where nobody else answers, the message is what the asker reads: it is about the question, not about us."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, fault=False)


class TooLongFor(ToldToAsker):
    """The question does not fit what the model can read."""


class Withheld(ToldToAsker):
    """The provider's safety filter refused the question or its answer."""


class BudgetSpent(ModelUnavailable):
    """The call could pass a hard limit of the budget, so it is not made. The message says which, and when it starts anew."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, fault=False)
