"""Distributed training: two ranks have the losses, gradients and runs of one process."""

import pytest
import torch
import two_ranks
from safetensors.torch import load_file
from standin_people import Bars
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from cstl_edge.errors import ConfigError
from cstl_edge.training import distributed
from cstl_edge.training.distributed import Ranks, gather_batch, join_ranks, resolve_device
from cstl_edge.training.run_state import start_run
from cstl_edge.training.trainer import train

from .conftest import log


@pytest.fixture(scope="module")
def two_ranks_folder(tmp_path_factory):
    """The folder in which two gloo processes of torchrun's agent have left their results."""
    folder = tmp_path_factory.mktemp("ranks")
    # autograd's device threads do not survive a fork; without a GPU there are none
    method = "spawn" if torch.cuda.is_available() else "fork"
    rendezvous = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "two-ranks"}
    limits = {"max_restarts": 0, "monitor_interval": 0.05, "start_method": method}
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=2, **rendezvous, **limits)
    elastic_launch(config, two_ranks.main)(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("case", two_ranks.CASES)
def test_losses_statistics_and_gradients_equal_one_process(case, two_ranks_folder):
    _, one = two_ranks.first_gradient(case, two_ranks_folder)
    two = load_file(two_ranks_folder / f"{case}.safetensors")
    assert set(one) == set(two)
    for name, expected in one.items():
        largest = float(expected.abs().max())
        assert largest > 0, name
        error = float((two[name] - expected).abs().max())
        assert error < 1e-6 * largest, f"{name}: {error} of {largest}"


@pytest.mark.slow
@pytest.mark.parametrize("case", two_ranks.CASES)
def test_run_of_two_equals_run_of_one_and_first_rank_writes(case, two_ranks_folder):
    folder = two_ranks_folder
    train(two_ranks.configuration(case), Bars(), folder / f"{case} alone")
    alone, together = (log(folder / f"{case} {name}") for name in ("alone", "of 0"))
    for key in ("iteration", "loss", "triplet", "cross_entropy", "nonzero"):
        one, two = ([line[key] for line in lines] for lines in (alone, together))
        assert two == pytest.approx(one, rel=1e-2), key
    first = [lines[0]["gradient_triplet"] for lines in (alone, together)]
    assert first[1] == pytest.approx(first[0], rel=1e-2)
    assert not (folder / f"{case} of 1").exists()
    assert len({line["loss"] for line in alone}) > 1


def test_single_process_gathers_nothing_and_does_not_wait():
    x = torch.arange(6.0, requires_grad=True)
    assert gather_batch(x) is x
    ranks = Ranks.current()
    assert ranks == Ranks(0, 1)
    assert ranks.synchronise(0.5, True, x.device) == (0.5, True)
    assert ranks.mean(x) is x
    ranks.wait()


def test_missing_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ConfigError, match=r"GPU for process 1 .* torch finds 1\. Set run\.device"):
        resolve_device("auto")
    assert resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="torch finds 0"):
        resolve_device("cuda")


def test_environment_without_torchrun_variables_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(ConfigError, match=r"RANK.*Start them by torchrun"),
        join_ranks(torch.device("cpu")),
    ):
        pass


def test_every_batch_norm_is_synchronised():
    model = start_run(two_ranks.configuration("one batch"), Bars()).model
    before = model.state_dict()
    distributed._sync_norms(model)
    kinds = {type(module).__name__ for module in model.modules() if hasattr(module, "running_var")}
    assert kinds == {"SyncPartNorm"}
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
