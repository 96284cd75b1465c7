"""Whether others ask the same server, and how little an audit takes of its time then."""

import pytest

from audit_plugin.target.load.company import Company
from engines.pressure import QueueCounts
from tests.target.load.test_guard import World


def test_nobody_is_alone_before_it_is_known():
    """Not before so long without anybody else's request."""
    company = Company(5.0)
    assert company.others(0.0)
    company.look(1000, 0, 0, 0.0)
    assert company.others(4.9)
    company.look(1040, 40, 0, 5.0)
    assert not company.others(5.0)


def test_a_single_request_of_somebody_else_is_company():
    """However many of ours were answered in between, and even where it hides behind one that is under way for a while."""
    company = Company(5.0)
    for second in range(7):
        company.look(100 + 20 * second, 20 * second, 0, float(second))
    assert not company.others(6.0)
    company.look(100 + 140 + 1, 140, 1, 7.0)
    assert not company.others(7.0)  # it may be ours
    company.look(100 + 160 + 1, 160, 0, 8.0)
    assert company.others(8.0)
    assert not company.others(13.1)


def test_a_server_that_began_anew_has_no_past():
    """Its count is smaller than it was."""
    company = Company(5.0)
    company.look(1000, 10, 0, 0.0)
    company.look(3, 12, 0, 100.0)
    assert company.others(104.0)
    assert not company.others(105.0)


class Crowd(World):
    """Others ask fifty times a second."""

    def look(self):
        return QueueCounts(answered=int(50 * self.now) + len(self.sent))


@pytest.mark.parametrize("share", [0.005, 0.1])
def test_while_others_ask_it_takes_its_share_of_time_and_no_more(share):
    """Whatever a request takes; alone, the budget is all there is."""
    world = Crowd(requests_per_second=0, busy_share=share)
    for _ in range(20):
        world.send(took=0.1)
    assert world.now == pytest.approx(20 * 0.1 / share, rel=0.1)
    assert world.guard.counts.yielded_seconds == pytest.approx(world.now - 2.0, rel=0.1)


def test_alone_the_budget_is_all_there_is():
    """After a few seconds of nobody else's requests."""
    world = World(requests_per_second=20, busy_share=0.1)
    for number in range(300):
        world.queues = QueueCounts(answered=50 + number)
        world.send(took=0.01)
    late = [moment for moment in world.sent if moment > 12]
    assert (len(late) - 1) / (late[-1] - late[0]) == pytest.approx(20, rel=0.1)


def test_a_share_of_one_lifts_it():
    """As without others."""
    world = World(requests_per_second=0, busy_share=1)
    for number in range(10):
        world.queues = QueueCounts(answered=100 * number)
        world.send(took=0.1)
    assert world.now == pytest.approx(1.0)
