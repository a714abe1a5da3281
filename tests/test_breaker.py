"""A provider that fails in a row is left alone for a while, tried by one question, and taken back when it works."""

from bot.breaker import FAULTS, LONGEST_REST_S, REST_S, Breaker


class Hands:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Hands) -> Breaker:
    breaker = Breaker(clock)
    for _ in range(FAULTS):
        assert breaker.enter()
        breaker.failed()
    return breaker


def test_it_opens_after_faults_in_a_row_and_not_before() -> None:
    """An answer in between begins the count anew; what speaks against nobody is not counted."""
    breaker = Breaker(Hands())
    for outcome in ("failed", "failed", "answered", "failed", "left", "failed"):
        assert breaker.enter()
        getattr(breaker, outcome)()
    assert not breaker.open
    breaker.failed()
    assert breaker.open
    assert not breaker.enter()
    assert breaker.rest_s == REST_S


def test_after_the_rest_one_question_tries_and_an_answer_closes_it() -> None:
    """While it tries, the others still pass by."""
    clock = Hands()
    breaker = opened(clock)
    clock.now += REST_S
    assert breaker.enter()
    assert not breaker.enter()
    breaker.answered()
    assert not breaker.open
    assert breaker.enter()
    assert breaker.enter()


def test_each_failed_trial_makes_the_rest_longer_up_to_a_limit() -> None:
    """A provider that is down for hours costs one question now and then."""
    clock = Hands()
    breaker = opened(clock)
    rests = []
    for _ in range(8):
        rests.append(breaker.rest_s)
        clock.now += breaker.rest_s
        assert breaker.enter()
        breaker.failed()
    assert rests[:3] == [REST_S, REST_S * 2, REST_S * 4]
    assert rests[-1] == LONGEST_REST_S


def test_a_trial_that_was_given_up_lets_the_next_one_try() -> None:
    """Somebody pressed Stop: nothing was learned, and nobody waits for a verdict that never comes."""
    clock = Hands()
    breaker = opened(clock)
    clock.now += REST_S
    assert breaker.enter()
    breaker.left()
    assert breaker.enter()
