"""Networks of the peers: published costs, invariances, parity of their runners."""

from functools import partial

import numpy as np
import pytest

TRUNK = 106_061_824  # multiply-adds of a frame in GaitSet, GaitPart and GLN


@pytest.fixture
def count(torch, peers):
    """Counts of a network that is never computed: tensors have shapes only."""
    fake = pytest.importorskip("torch._subclasses.fake_tensor")

    def counted(make):
        with fake.FakeTensorMode():
            return peers.cost.counts(make())

    return counted


KINDS = ("gaitset", "gaitpart", "gln", "mt3d_style")
SETS, ORDERED = ("gaitset", "gln"), ("gaitpart", "mt3d_style")


# Figures of networks of other people's at CASIA-B's widths, measured on their own code.
@pytest.mark.parametrize(
    ("name", "parameters", "whole", "answer"),
    [
        ("GaitSet", 2_594_592, 3_261_743_104, 79_888_384),  # the branch of sets, the matrices, once
        ("GaitPart", 1_204_000, 3_201_777_664, 19_660_800 + 262_144),
        ("GLN", 8_541_984, 5_526_536_192, 5_526_536_192 - 30 * TRUNK),
    ],
)
def test_a_network_has_the_published_cost(count, peers, name, parameters, whole, answer):
    counts = count(peers.networks.NETWORKS[name].published)
    assert (counts.parameters, counts.whole) == (parameters, whole)
    assert counts.further == TRUNK + answer


def test_mt3d_style_costs_what_the_reconstruction_does(count, peers):
    counts = count(peers.mt3d_style.Mt3dStyle)
    matrices = 32 * 128 * 128  # they were not counted there
    assert counts.parameters - matrices == 2_142_048
    assert round((counts.whole - matrices) / 1e7) == 3658
    assert (counts.further, counts.kept_bytes) == (counts.whole, 0)


@pytest.mark.parametrize(
    ("part", "parameters"), [("trunk", 286_496), ("motion", 655_360), ("matrices", 262_144)]
)
def test_gaitpart_divides_as_published(torch, peers, part, parameters):
    with torch.device("meta"):
        network = peers.gaitpart.GaitPart()
    groups = {"trunk": ("stage",), "motion": ("motion",), "matrices": ("matrices",)}[part]
    named = network.named_parameters()
    assert sum(p.numel() for name, p in named if name.startswith(groups)) == parameters


def test_all_networks_cost_the_same_within_3_percent(count, peers):
    costs = {}
    for name in peers.networks.NETWORKS:
        make = partial(peers.running.random_peer, name, "common cost")
        fused = name.startswith("CSTL")  # copies of it need tensors with values
        costs[name] = (peers.cost.counts(make()) if fused else count(make)).whole
    assert all(abs(cost / costs["CSTL"] - 1) < 0.03 for cost in costs.values()), costs


def test_registered_widths_are_those_of_the_layers(torch, peers):
    for name, entry in peers.networks.NETWORKS.items():
        common, published = (
            (entry.scaled(0), entry.widths),
            (entry.published(), entry.published_widths),
        )
        for network, widths in (common, published):
            channels = {p.shape[0] for p in network.parameters() if p.ndim > 3}
            assert set(widths) == channels, name


def test_ablations_answer_as_networks_do(torch, peers):
    silhouettes = torch.zeros(2, 4, 64, 44, dtype=torch.uint8)
    silhouettes[:, :, 8:56, 12:32] = 255
    for name in peers.networks.ABLATIONS:
        network = peers.networks.network(name).scaled(5)
        outputs = network.training_outputs(silhouettes, torch.full((2,), 4, dtype=torch.int32))
        assert outputs.embedding.shape == (2, 16, 64), name
        assert (outputs.logits is not None) == name.startswith("CSTL")
        answer = peers.running.as_peer(network.eval())(silhouettes)
        assert answer.shape == (2, 16, 64)
        assert torch.isfinite(answer).all()


def test_an_unknown_network_is_refused_by_name(peers):
    from cstl_edge.errors import ConfigError

    with pytest.raises(ConfigError, match=r"GaitSet.*got 'GaitNet'"):
        peers.networks.network("GaitNet")


@pytest.mark.parametrize(
    ("kind", "parts"), [("gaitset", 62), ("gaitpart", 16), ("gln", 93), ("mt3d_style", 32)]
)
def test_embeddings_have_one_row_per_part(torch, tiny, walk, kind, parts):
    actual = tiny[kind](walk)
    assert actual.shape == (2, parts, 5)
    assert (tiny[kind].parts, tiny[kind].embedding) == (parts, 5)
    assert actual.dtype == torch.float32
    assert torch.isfinite(actual).all()


@pytest.mark.parametrize("kind", SETS)
def test_sets_depend_on_neither_order_nor_number(torch, tiny, walk, kind):
    actual = tiny[kind](walk)
    for frames in ([3, 0, 6, 2, 5, 1, 4], [0, 1, 2, 3, 4, 5, 6, 2, 2]):
        assert torch.allclose(tiny[kind](walk[:, frames]), actual, atol=1e-6), frames


@pytest.mark.parametrize("kind", ORDERED)
def test_ordered_networks_depend_on_the_order(torch, tiny, walk, kind):
    assert not torch.allclose(tiny[kind](walk[:, [3, 0, 6, 2, 5, 1, 4]]), tiny[kind](walk))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_does_not_depend_on_its_batch(torch, tiny, walk, kind):
    assert torch.allclose(tiny[kind](walk[1:]), tiny[kind](walk)[1:], atol=1e-6)


def test_strips_are_maximum_and_mean_of_bands(torch, peers):
    maps = torch.rand(2, 3, 16, 11)
    actual = peers.blocks.strips(maps, (4, 2))  # [n, p, c]
    bands = [*maps.split(4, 2), *maps.split(8, 2)]
    expected = torch.stack([x.amax((2, 3)) + x.mean((2, 3)) for x in bands], 1)
    assert torch.allclose(actual, expected)


def test_every_part_has_a_matrix_of_its_own(torch, peers):
    layer, x = peers.blocks.PartMatrices(3, 4, 5), torch.rand(2, 3, 4)
    expected = torch.stack([x[:, part] @ layer.weight[part] for part in range(3)], 1)
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_a_focal_stage_is_a_stage_on_every_strip(torch, peers):
    plain, focal = peers.blocks.Stage(2, 3), peers.blocks.Stage(2, 3, strips=4)
    focal.load_state_dict(plain.state_dict())
    x = torch.randn(2, 2, 16, 11)
    alone = torch.cat([plain(strip) for strip in x.split(4, 2)], 2)
    assert torch.allclose(focal(x), alone, atol=1e-6)
    assert not torch.allclose(focal(x), plain(x), atol=1e-3)  # zeros at the strips' edges


@pytest.mark.parametrize(("reach", "gate_kernel"), [(3, 1), (5, 3)])
def test_motion_is_a_gated_template_of_each_part(torch, peers, reach, gate_kernel):
    """One part in loops: averages count the zeros beyond the ends, maxima do not."""
    channels, s, part = 4, 6, 2
    motion = peers.gaitpart.Motion(channels, reach, gate_kernel)
    x = -torch.rand(1, peers.gaitpart.PARTS * channels, s)  # below the zeros of the padding
    mine = x[0, part * channels : (part + 1) * channels]  # [c, s]
    first, second = (
        layer.weight.view(peers.gaitpart.PARTS, -1, *layer.weight.shape[1:])[part][None]
        for layer in (motion.squeeze, motion.gate)
    )

    def convolved(y, weight):
        return torch.nn.functional.conv1d(y[None], weight[0], padding=weight.shape[-1] // 2)[0]

    hidden = convolved(mine, first)
    gate = torch.sigmoid(convolved(torch.where(hidden > 0, hidden, 0.01 * hidden), second))
    half = reach // 2
    around = [mine[:, max(0, t - half) : t + half + 1] for t in range(s)]
    template = torch.stack([near.sum(1) / reach + near.amax(1) for near in around], 1)
    actual = motion(x)[0, part * channels : (part + 1) * channels]
    assert torch.allclose(actual, gate * template, atol=1e-6)


def test_gaitpart_keeps_parts_apart(torch, tiny, walk):
    """The trunk's strips meet nowhere above a quarter of the height, nor do its parts later."""
    changed = walk.clone()
    changed[:, :, 48:] = 255 - changed[:, :, 48:]
    before, after = tiny["gaitpart"](walk), tiny["gaitpart"](changed)
    same = (before == after).all(2).all(0)  # [p]
    assert same[:10].all()
    assert not same[12:].any()


def test_a_short_sequence_is_played_again(torch, peers, tiny, walk):
    one = walk[:, :1]
    assert torch.equal(tiny["mt3d_style"](one), tiny["mt3d_style"](one.repeat(1, 4, 1, 1)))
    for frames, played in ((1, 4), (2, 4), (3, 6), (4, 4), (7, 7)):
        assert peers.mt3d_style.repeated(walk[:, :frames]).shape[1] == played


def test_the_large_scale_steps_over_three_frames(tiny, walk):
    small, large = tiny["mt3d_style"].maps(walk)
    assert small.shape == (2, 4, 7, 32, 22)
    assert large.shape == (2, 4, 2, 32, 22)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_learnt(tiny, walk, kind):
    tiny[kind](walk).square().sum().backward()
    still = [name for name, p in tiny[kind].named_parameters() if not p.grad.any()]
    assert not still


@pytest.mark.parametrize("kind", ["gaitset", "gaitpart", "gln"])
def test_frames_that_were_kept_give_the_whole_window(peers, tiny, walk, kind):
    eager, sequence = peers.running.Eager(tiny[kind]), walk[:1].numpy()
    stream = peers.running.Stream(eager, sequence)
    assert np.allclose(stream.last, eager.whole(sequence), atol=1e-6)
    stream.step()  # the first frame has come again, behind the last
    assert np.allclose(stream.last, eager.whole(np.roll(sequence, -1, 1)), atol=1e-6)


def test_a_ring_holds_the_last_frames_in_their_order(peers):
    ring = peers.running.Ring(3)
    for number in range(1, 8):
        (window,) = ring.push([np.full((1, 2), number, np.float32)])
        assert window.flags["C_CONTIGUOUS"]
    assert window[0, :, 0].tolist() == [5, 6, 7]


@pytest.mark.parametrize("kind", [*KINDS, "cstl"])
def test_onnx_answers_as_eager_pytorch(monkeypatch, peers, tiny, walk, kind):
    pytest.importorskip("onnxruntime")
    from cstl_edge.model import Cstl, CstlConfig

    monkeypatch.setattr(peers.running, "FRAMES", 7)
    config = CstlConfig(widths=(2, 4, 4, 4), parts=4, embedding=5)
    peer = peers.running.as_peer(Cstl(config) if kind == "cstl" else tiny[kind])
    onnx = peers.running.Onnx(peers.running.exported(peer), 1)
    sequence = walk[:1].numpy()
    expected = peers.running.Eager(peer).whole(sequence)
    assert np.allclose(onnx.whole(sequence), expected, atol=1e-5)
    if peer.per_frame:
        stream = peers.running.Stream(onnx, sequence)
        assert np.allclose(stream.last, expected, atol=1e-5)
