"""Bound graphs: inputs are copies, which every run reads."""

import numpy as np

from cstl_edge.runtime.graph import bind


def test_bound_inputs_are_copies_that_every_run_reads():
    given = np.array([1.0, 2.0], np.float32)
    bound = bind(lambda inputs: {"doubled": inputs["x"] * 2}, {"x": given})
    given[:] = 9
    assert bound.run() is None
    first = bound.outputs()["doubled"]
    bound.inputs["x"][:] = 3
    bound.run()
    assert (first.tolist(), bound.outputs()["doubled"].tolist()) == ([2.0, 4.0], [6.0, 6.0])
    bound.close()
