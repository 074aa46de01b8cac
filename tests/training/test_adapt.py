"""Adaptation: it helps where people differ in what the last layer can weigh, else it is refused."""

import dataclasses

import numpy as np
import pytest
import torch

from cstl_edge.checkpoint.weights import load_checkpoint, save_checkpoint
from cstl_edge.data.walkers_dataset import WalkersSettings
from cstl_edge.distance import Distance
from cstl_edge.errors import DataError, ModelError
from cstl_edge.model import Cstl, CstlConfig
from cstl_edge.training import adapt as module
from cstl_edge.training.adapt import (
    Adaptation,
    Figures,
    OwnWalk,
    Windows,
    adapt,
    adapt_to_walks,
    own_windows,
    read_own_walks,
    search,
    window_inputs,
)

RNG = np.random.default_rng


def network(seed=0):
    torch.manual_seed(seed)
    return Cstl(CstlConfig(widths=(2, 4, 8, 8), parts=4, embedding=16)).eval()


def bars(person, walk, frames=20):
    """A bar whose width is the person's; its place is the walk's."""
    silhouettes = np.zeros((frames, 64, 44), np.uint8)
    for t in range(frames):
        left = 2 + (5 * walk + t % 3) % 16
        silhouettes[t, 8 * (person % 3) :, left : left + 5 + 3 * person] = 255
    return silhouettes


def walks(people=4, each=4):
    return [OwnWalk(f"p{p}", f"p{p}/{w}", bars(p, w)) for p in range(people) for w in range(each)]


def noisy_windows(seed, people, held_out):
    """People whose inputs differ in a few channels, under louder noise in all others."""
    rng = RNG(seed)
    own = rng.normal(size=(people, 4, 16)) * (np.arange(16) < 4)
    noise = rng.normal(size=(people, 8, 4, 16)) * np.where(np.arange(16) < 4, 0.3, 2.0)
    inputs = torch.tensor((own[:, None] + noise).reshape(-1, 4, 16), dtype=torch.float32)
    labels = np.repeat(np.arange(people), 8)
    return Windows(inputs, labels, held_out(labels))


def last_walks(labels):
    return np.tile(np.arange(8) >= 5, len(labels) // 8)


def test_adaptation_learns_which_inputs_tell_people_apart():
    net = network()
    own = noisy_windows(1, 6, last_walks)
    walkers = noisy_windows(2, 30, lambda labels: labels >= 20)
    result = adapt(net, own, walkers)
    assert result.own_after.auc > result.own_before.auc + 0.02
    assert result.walkers_after.auc > result.walkers_before.auc
    assert result.refusal is None
    assert (result.people, result.trained_windows, result.held_out_windows) == (6, 30, 18)


def test_a_joint_row_counts_in_the_figures():
    own, walkers = noisy_windows(1, 6, last_walks), noisy_windows(2, 30, lambda x: x >= 20)
    d, p = network().config.embedding, network().config.parts
    joint = RNG(7).normal(size=(d, p, d)).astype(np.float32)
    without, beside = (adapt(network(), own, walkers, joint=x) for x in (None, joint))
    assert without.own_before.auc != beside.own_before.auc
    assert without.trained_windows == beside.trained_windows


def test_adaptation_to_noise_is_refused():
    """Labels that say nothing of the inputs: the held-out walks show it."""
    net = network()
    rng = RNG(3)
    own = noisy_windows(4, 6, last_walks)
    own = dataclasses.replace(own, inputs=own.inputs[torch.from_numpy(rng.permutation(48))])
    walkers = noisy_windows(5, 30, lambda labels: labels >= 20)
    walkers = dataclasses.replace(walkers, inputs=walkers.inputs[rng.permutation(240)])
    result = adapt(net, own, walkers)
    assert result.refusal is not None


@pytest.mark.parametrize(
    ("own", "walkers", "reason"),
    [
        ((0.80, 0.90), (0.95, 0.95), None),
        ((0.80, 0.80), (0.95, 0.95), "does not help"),
        ((0.80, 0.87), (0.95, 0.95), "does not help"),  # not twice the standard error
        ((0.80, 0.90), (0.95, 0.93), "forgets other people"),
    ],
)
def test_refusal_names_what_got_worse(own, walkers, reason):
    figures = [Figures(0.5, auc) for auc in (*own, *walkers)]
    refusal = Adaptation(3, 10, 4, *figures, own_gain_error=0.04).refusal
    assert refusal is None if reason is None else reason in refusal


def test_search_of_a_worked_example():
    """One dimension: enrolled at 0 and 10; probes of the first at 1 and 9, of the second at 9."""
    x = np.array([0.0, 10.0, 1.0, 9.0, 9.0], np.float32).reshape(5, 1, 1)
    people, probes = np.array([0, 1, 0, 0, 1]), np.array([0, 0, 1, 1, 1], bool)
    result = search(Distance("euclidean"), x, people, probes, np.zeros((1, 1), np.float32))
    assert result.hits.tolist() == [True, False, True]
    assert result.shares == pytest.approx([2.5 / 3, 1 / 3, 2.5 / 3])  # wrong distances: 9, 1, 9
    assert result.figures == Figures(pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_last_third_of_each_persons_walks_is_held_out():
    windows = own_windows(network(), [*walks(3, 4), *walks(5, 1)[3:]])
    assert set(windows.people) == {0, 1, 2}  # who has one walk has nothing to check by
    for person in range(3):
        assert windows.held_out[windows.people == person].tolist() == [False] * 3 + [True]


def test_windows_are_what_the_last_matrices_read():
    net, walk = network(), bars(1, 2, 37)
    inputs = window_inputs(net, walk)
    assert inputs.shape == (1, 4, 16)
    expected = net(torch.from_numpy(walk[None, :30]))[0]
    actual = torch.einsum("pdk,npk->npd", net.embed.weight, inputs)
    torch.testing.assert_close(actual, expected)


def test_too_few_people_are_refused():
    with pytest.raises(DataError, match=r"at least 3 people with 2 walks .* got 2"):
        own_windows(network(), walks(2, 4))


def test_layout_of_folders(tmp_path):
    for person, name in (("Ada", "one"), ("Ada", "two"), ("Bo", "one")):
        (tmp_path / person).mkdir(exist_ok=True)
        np.save(tmp_path / person / f"{name}.npy", bars(1, 1))
    read = read_own_walks([tmp_path], (64, 44))
    assert [(x.person, x.name) for x in read] == [
        ("Ada", "Ada/one.npy"), ("Ada", "Ada/two.npy"), ("Bo", "Bo/one.npy")
    ]  # fmt: skip
    mirrored = read_own_walks([tmp_path], (64, 44), mirrored=True)[0]
    assert (mirrored.silhouettes == read[0].silhouettes[..., ::-1]).all()
    with pytest.raises(DataError, match=r"no walks in .*; expected a folder per person"):
        read_own_walks([tmp_path / "Ada"], (64, 44))


def test_a_joint_row_of_other_weights_is_refused_before_any_work(tmp_path):
    first = tmp_path / "first.safetensors"
    digest = save_checkpoint(first, network(), {"name": "tiny"}, half=True)

    def refuse(weights_sha256, training, config):
        assert (weights_sha256, training["name"], config) == (digest, "tiny", network().config)
        raise ModelError("of others")

    def unwanted(size):
        pytest.fail("the walks were read")

    with pytest.raises(ModelError, match="of others"):
        adapt_to_walks(first, unwanted, tmp_path / "out.safetensors", cache=tmp_path, joint=refuse)


def test_what_helps_is_written_with_its_figures_and_what_does_not_is_not(tmp_path, monkeypatch):
    first, output = tmp_path / "first.safetensors", tmp_path / "out.safetensors"
    save_checkpoint(first, network(), {"name": "tiny"}, half=True)
    tiny = WalkersSettings(people=8, first=940_000, nm=1, bg=0, cl=1, views_deg=(90,), frames=15)
    monkeypatch.setattr(module, "WALKERS", tiny)
    monkeypatch.setattr(module, "WALKERS_TRAINED", 4)
    monkeypatch.setattr(module, "STEPS", 20)

    def run():
        return adapt_to_walks(first, lambda size: walks(4, 4), output, cache=tmp_path, workers=1)

    good = Adaptation(4, 12, 4, *(Figures(0.5, x) for x in (0.8, 0.9, 0.9, 0.9)), 0.01)
    real = module.adapt
    monkeypatch.setattr(module, "adapt", lambda *a, **k: real(*a, **k) and good)
    run()
    adapted, training = load_checkpoint(output)
    before, _ = load_checkpoint(first)
    assert not torch.equal(adapted.embed.weight, before.embed.weight)
    assert torch.equal(adapted.backbone.convs[0].weight, before.backbone.convs[0].weight)
    assert training["adapted"]["own_after"]["auc"] == 0.9
    assert training["name"] == "tiny"
    output.unlink()
    bad = dataclasses.replace(good, own_after=Figures(0.4, 0.7))
    monkeypatch.setattr(module, "adapt", lambda *a, **_: bad)
    with pytest.raises(ModelError, match="the adapted weights are not kept: it does not help"):
        run()
    assert not output.exists()
