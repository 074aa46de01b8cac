"""Contexts, runs and kernels of the suite, in place of a machine's."""

from pathlib import Path

from cstl_edge.bench.context import Budget, Context
from cstl_edge.bench.model_under_test import describe_model
from cstl_edge.bench.record import Ran
from cstl_edge.bench.roofline.kernel import Kernel

GOLDEN = Path(__file__).parents[1] / "golden"
QUICK = Budget(warm_up_s=0.0, seconds=0.0, samples=3, search_s=0.1, people=2)


def context_of(folder, weights=None, **changes):
    """Return a context of an exported folder that measures three samples."""
    model = describe_model(folder, trained=False)
    given = {"run": "test", "threads": 1, "budget": QUICK, "short": True, "progress": quiet}
    return Context(folder=folder, weights=weights, **{"model": model, **given, **changes})


def quiet(text):
    """Ignore narration."""


def raising(error):
    """Return a function of any arguments that raises an error."""

    def fail(*args, **options):
        raise error

    return fail


def ran(precision="float32", computed_in=None, **changes):
    """Return how a backend ran: on the CPU."""
    given = {"backend": "x", "provider": "CPUExecutionProvider", "version": "1"} | changes
    return Ran(precision=precision, computed_in=computed_in or precision, **given)


def kernel(work=1e9, prepare=lambda: lambda: None, kind="arithmetic", **changes):
    """Return a kernel that does nothing."""
    given = {"device": "cpu", "name": "stand-in", "precision": "float32", "ran": ran(), **changes}
    return Kernel(kind=kind, work=work, prepare=prepare, **given)
