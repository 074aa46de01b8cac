"""Context of a call: the rows that it builds."""

from cstl_edge.bench.record import Case


def test_a_row_belongs_to_its_call(reduced):
    row = reduced.row("multi", "x", case=Case(walkers=3), values={"walkers": 3.0})
    assert (row.run, row.scenario, row.subject) == ("test", "multi", reduced.model)
    assert (row.contender, row.case.walkers, row.skipped) == ("x", 3, None)
    assert reduced.row("roofline", "peak", subject=None).subject is None
