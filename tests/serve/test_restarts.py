"""When a dead process lives again: growing delays, and never after five deaths in ten minutes."""

from cstl_edge.serve.restarts import DELAYS_S, RestartPolicy


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


def test_delays_grow_and_five_deaths_leave_it_off():
    clock = Clock()
    policy = RestartPolicy(clock)
    delays = []
    for _ in range(4):
        delays.append(policy.died())
        clock.now_s += 60
    assert delays == list(DELAYS_S[:4])
    assert policy.died() is None
    assert policy.recent == policy.total == 5


def test_old_deaths_do_not_count():
    clock = Clock()
    policy = RestartPolicy(clock)
    for _ in range(20):
        assert policy.died() in DELAYS_S[:4]
        clock.now_s += 200
    assert policy.total == 20


def test_somebody_who_asks_is_given_another_try():
    policy = RestartPolicy(Clock())
    for _ in range(5):
        last = policy.died()
    assert last is None
    policy.forgive()
    assert policy.died() == DELAYS_S[0]
