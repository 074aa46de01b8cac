"""CSTL as a whole: configurations, sizes, refusals, a training step, the fused network."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from tiny_cstl import disturb_norms, int32, walk
from tiny_cstl import fresh_network as network
from torch import Tensor

from cstl_edge.model import Cstl, CstlConfig, TrainingOutputs
from cstl_edge.model.temporal import PartNorm, gates

SCALES = ("frame", "short", "long")
TABLE_3 = [
    {"scales": ("frame",), "aggregation": "max", "salient": False},  # baseline
    {"aggregation": "max", "salient": False},  # + MSTE
    {"salient": False},  # + MSTE + ATA
    {"aggregation": "max"},  # + MSTE + SSFL
    {},  # CSTL
]
TABLE_4 = [{"scales": s} for k in (1, 2, 3) for s in itertools.combinations(SCALES, k)]
TABLE_5 = [{"aggregation": "max"}, {"aggregation": "mean"}, {"aggregation": "adaptive"}]
RELEASED = {"variant": "released", "classes": 3}
CASIA_B = CstlConfig()
OU_MVLP = CstlConfig(widths=(64, 128, 256, 256), embedding=512)


@pytest.mark.parametrize("form", [*TABLE_3, *TABLE_4, *TABLE_5], ids=str)
def test_every_row_of_the_tables_runs_and_learns(form: dict[str, object]) -> None:
    classes = 3 if form.get("salient", True) else 0
    net = network(**form, classes=classes).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    outputs = net.training_outputs(walk())
    assert isinstance(outputs, TrainingOutputs)
    assert outputs.embedding.shape == (4, 2, 6)
    loss = outputs.embedding.square().mean()
    if classes:
        assert outputs.logits is not None
        assert outputs.logits.shape == (4, 2, 3)
        loss = loss + torch.nn.functional.cross_entropy(
            outputs.logits.flatten(0, 1), torch.tensor([0, 0, 1, 1, 2, 2, 0, 0])
        )
    else:
        assert outputs.logits is None
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    optimizer.step()
    embedding, frames = net.eval()(walk())
    assert embedding.isfinite().all()
    assert (frames is None) == (not net.config.salient)


@pytest.mark.parametrize("form", TABLE_4, ids=str)
def test_absent_scales_have_no_weights(form: dict[str, object]) -> None:
    net = network(**form)
    assert (net.short is None) == ("short" not in net.config.scales)
    assert (net.long is None) == ("long" not in net.config.scales)
    channels, count = 32, len(net.config.scales)
    inputs = sum(layer.weight.shape[2] for layer in net.scores.first.values())
    assert inputs == count * channels


@pytest.mark.parametrize("aggregation", ["max", "mean"])
def test_without_ata_the_sum_of_the_scales_is_pooled(aggregation: str) -> None:
    net = network(aggregation=aggregation, salient=False).double().eval()
    features = torch.rand(2, 5, 2, 32, dtype=torch.float64)
    x = features.permute(2, 3, 0, 1)
    summed = x + net.short(x, None) + net.long(x, None)  # T̃_l of Eq. 2
    pooled = summed.amax(3) if aggregation == "max" else summed.mean(3)
    expected = (net.embed.weight @ pooled).permute(2, 0, 1)
    torch.testing.assert_close(net.head(features)[0], expected)


def test_long_term_alone_makes_all_frames_equal() -> None:
    _, frames = network(scales=("long",)).eval()(walk(s=9))
    assert frames is not None
    assert not frames.any()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            CASIA_B,
            9 * (1 * 32 + 32 * 64 + 64 * 128 + 128 * 128)  # trunk
            + 32 * 2 * (3 * 128 * 128 + 2 * 128)  # short-term convolutions and their norms
            + 32 * 2 * 128 * 8  # long-term MLP
            + 32 * 2 * 384 * 24  # ATA
            + 32 * (384 * 24 + 24)  # part scores
            + 32 * 256 * 256,  # [S; T] to the embedding
        ),
        (
            OU_MVLP,
            9 * (1 * 64 + 64 * 128 + 128 * 256 + 256 * 256)
            + 32 * 2 * (3 * 256 * 256 + 2 * 256)
            + 32 * 2 * 256 * 16
            + 32 * 2 * 768 * 48
            + 32 * (768 * 48 + 48)
            + 32 * 512 * 512,
        ),
    ],
    ids=["casia-b", "ou-mvlp"],
)
def test_number_of_parameters(config: CstlConfig, expected: int) -> None:
    with torch.device("meta"):
        net = Cstl(config)
    assert sum(parameter.numel() for parameter in net.parameters()) == expected


def test_paper_sizes_as_totals() -> None:
    with torch.device("meta"):
        counts = [sum(p.numel() for p in Cstl(c).parameters()) for c in (CASIA_B, OU_MVLP)]
        head = Cstl(CstlConfig(classes=74)).class_head
    assert counts == [6_450_208, 25_765_952]
    assert head is not None
    assert sum(p.numel() for p in head.parameters()) == 2 * 32 * 128 + 32 * 128 * 74


def test_class_head_starts_at_zero_and_sends_nothing_into_the_trunk() -> None:
    net = network(classes=3).train()
    logits = net.training_outputs(walk()).logits
    assert logits is not None
    assert not logits.any()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.zeros(8, dtype=int))
    loss.backward()
    assert not any(parameter.grad.any() for parameter in net.backbone.parameters())
    assert net.class_head.weight.grad.any()


def test_embedding_class_head_is_a_scaled_cosine() -> None:
    net = network(classes=3, class_head="embedding").train()
    assert net.class_head is None
    outputs = net.training_outputs(walk())
    assert outputs.logits is None
    x = outputs.embedding.detach()  # [n, p, d]
    normed = (x - x.mean(0)) * torch.rsqrt(x.var(0, unbiased=False) + PartNorm.EPSILON)
    weight = net.embedding_class_head.weight  # [p, d, classes]
    expected = torch.stack([
        16 * torch.nn.functional.cosine_similarity(
            normed[:, part, :, None], weight[part][None], dim=1
        )
        for part in range(2)
    ], 1)  # fmt: skip
    torch.testing.assert_close(outputs.embedding_logits, expected)


def test_network_without_ssfl_can_have_a_class_head_on_its_embedding() -> None:
    net = network(salient=False, aggregation="max", classes=3, class_head="embedding").train()
    outputs = net.training_outputs(walk())
    assert outputs.embedding_logits is not None
    assert outputs.embedding_logits.shape == (4, 2, 3)


def test_unshuffled_trunk_sees_every_pixel_once() -> None:
    form = {"size": (16, 8), "widths": (32, 32, 64, 64), "trunk": "unshuffled"}
    net = network(**form).double()
    silhouettes = walk(1, 3, 16, 8)[0]
    x = silhouettes.double()[:, None] / 255
    places = [x[:, :, i::2, j::2] for i in range(2) for j in range(2)]
    x = torch.cat(places, 1)  # [m, 4, h/2, w/2]
    for layer, conv in enumerate(net.backbone.convs):
        x = torch.nn.functional.leaky_relu(conv(x), 0.01)
        x = torch.nn.functional.max_pool2d(x, 2) if layer == 1 else x
    bands = x.reshape(3, 64, 2, -1)  # two parts of two rows
    expected = (bands.amax(3) + bands.mean(3)).transpose(1, 2)
    torch.testing.assert_close(net.frame_features(silhouettes), expected)
    assert net.config.map_size == (4, 2)


def test_unshuffled_trunk_costs_a_third_of_the_shipped_one() -> None:
    """Multiply-adds of a frame, counted from shapes: 17 million against 52."""

    def cost(config: CstlConfig) -> int:
        with torch.device("meta"):
            convs = Cstl(config).backbone.convs
        h, w = config.map_size
        pixels = [4 * h * w, 4 * h * w, h * w, h * w]
        return sum(n * conv.weight.numel() for n, conv in zip(pixels, convs, strict=True))

    half = CstlConfig(widths=(16, 32, 64, 64), parts=16)
    small = CstlConfig(widths=(32, 32, 64, 64), parts=16, trunk="unshuffled")
    assert [round(cost(config) / 1e6) for config in (half, small)] == [52, 17]


@pytest.mark.parametrize("parts", [1, 4, 8, 32])
def test_parts_are_bands_of_the_map(parts: int) -> None:
    net = network(size=(64, 44), widths=(2, 2, 2, 16), parts=parts, embedding=4).eval()
    embedding, frames = net(walk(2, 3, 64, 44))
    assert embedding.shape == (2, parts, 4)
    assert frames is not None
    assert frames.shape == (2, parts)


def test_forward_is_frame_features_then_head() -> None:
    net, silhouettes = network().eval(), walk()
    features = net.frame_features(silhouettes.flatten(0, 1))
    assert features.shape == (24, 2, 32)
    embedding, frames = net.head(features.unflatten(0, (4, 6)))
    expected, expected_frames = net(silhouettes)
    assert torch.equal(embedding, expected)
    assert frames is not None
    assert torch.equal(frames, expected_frames)
    assert (embedding.dtype, frames.dtype) == (torch.float32, torch.int32)


def test_salient_frames_tell_where_each_part_came_from() -> None:
    net, features = network().eval(), torch.rand(3, 7, 2, 32)
    lengths = int32(7, 4, 1)
    seen: dict[str, Tensor] = {}
    net.scores.register_forward_hook(lambda _m, _i, out: seen.update(scores=out))
    embedding, frames = net.head(features, lengths)
    assert frames is not None
    for b, length in enumerate(lengths.tolist()):
        expected = seen["scores"][:, b, :length].argmax(1)
        assert frames[b].tolist() == expected.tolist()
    salient = features[torch.arange(3)[:, None], frames.long(), torch.arange(2)]  # [n, p, c]
    temporal = embedding - torch.einsum("pdc,npc->npd", net.embed.weight[:, :, :32], salient)
    net.embed.weight.data[:, :, :32] = 0  # without S, O is what T alone gives
    torch.testing.assert_close(net.head(features, lengths)[0], temporal, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "form", [{}, {"classes": 3}, {"scales": ("frame", "long")}, RELEASED], ids=str
)
def test_fused_is_equal_and_has_no_norms(form: dict[str, object]) -> None:
    net = disturb_norms(network(**form)).eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    fused = net.fused()
    assert not any(isinstance(module, PartNorm) for module in fused.modules())
    assert (fused.config.classes, fused.class_head) == (0, None)
    lengths = int32(6, 3, 1, 5)
    expected, actual = net(walk(), lengths), fused(walk(), lengths)
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-5, atol=1e-5)
    assert torch.equal(actual[1], expected[1])
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())


@pytest.mark.parametrize("form", [{}, RELEASED], ids=str)
def test_trace_is_dynamic_in_batch_and_frames(form: dict[str, object]) -> None:
    net = disturb_norms(network(**form)).eval().fused()
    lengths = int32(6, 3, 1, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit itself
        warnings.simplefilter("error", torch.jit.TracerWarning)
        traced = torch.jit.trace(net, (walk(), lengths), check_trace=False)
    assert "cstl_edge::part_gather" in str(traced.inlined_graph)
    for n, s, ends in ((1, 1, [1]), (2, 11, [11, 4]), (5, 3, [3, 2, 1, 3, 1])):
        example = walk(n, s), int32(*ends)
        torch.testing.assert_close(traced(*example), net(*example))


def test_autocast_keeps_sums_ratios_and_norms_wide() -> None:
    net = network(classes=3).train()
    plain = net.training_outputs(walk())
    with torch.autocast("cpu", torch.bfloat16):
        half = net.training_outputs(walk())
    assert half.logits is not None
    assert half.embedding.dtype == half.logits.dtype == torch.float32
    error = (half.embedding - plain.embedding).abs().max() / plain.embedding.abs().max()
    assert error < 0.03  # bfloat16 has 8 bits
    (half.embedding.sum() + half.logits.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_gates_do_not_saturate_in_float16() -> None:
    logits = torch.tensor([-20.0, 9.0, 12.0], dtype=torch.float16)
    (weights,) = gates([logits], None)
    assert weights.dtype == torch.float32
    assert weights[0] > 0
    assert weights[1] < weights[2] < 1


@pytest.mark.parametrize("level", [0.0, -30.0, -200.0])
def test_gates_that_are_closed_in_every_frame_still_weigh_frames(level: float) -> None:
    logits = level + torch.randn(3, 4, 2, 5)
    mask = torch.tensor([[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    logits[:, :, 0, 3:] = 40.0  # in the padding: must not count
    logits.requires_grad_()
    (weights,) = gates([logits], mask)
    share = weights / weights.sum(3, keepdim=True)
    plain = torch.sigmoid(logits.double()) * mask
    assert torch.allclose(share.double(), plain / plain.sum(3, keepdim=True), atol=1e-5)
    (share * torch.arange(5)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[:, :, 1].abs().max() > 0.01


def test_half_network_stays_close() -> None:
    net = disturb_norms(network()).eval()
    features, lengths = torch.rand(2, 6, 2, 32), int32(6, 2)
    expected, _ = net.head(features, lengths)
    actual, _ = net.half().head(features.half(), lengths)
    assert actual.dtype == torch.float32
    assert (actual - expected).abs().max() < 0.02 * expected.abs().max()


def test_initial_weights_keep_the_scale_of_their_input() -> None:
    net = network(widths=(8, 16, 32, 64), embedding=128)
    for layer in net.short.convs:
        assert layer.weight.var().item() == pytest.approx(1 / (3 * 64), rel=0.1)
    for layer in net.scores.first.values():
        assert layer.weight.var().item() == pytest.approx(2 / (3 * 64), rel=0.1)
    norm = (net.embed.weight @ torch.randn(2, 128, 500)).norm(dim=1).mean().item()
    assert norm == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    ("silhouettes", "message"),
    [
        (torch.zeros(2, 3, 8, 5, dtype=torch.uint8), r"uint8 \[n, s, 8, 4\], got torch.uint8"),
        (torch.zeros(3, 8, 4, dtype=torch.uint8), r"\[n, s, 8, 4\]"),
        (torch.zeros(2, 3, 8, 4), "float32"),
    ],
)
def test_wrong_silhouettes_are_refused(silhouettes: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network()(silhouettes)


@pytest.mark.parametrize("shape", [(2, 3, 2, 31), (2, 3, 1, 32), (3, 2, 32), (2, 0, 2, 32)])
def test_wrong_features_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected features"):
        network().head(torch.zeros(shape))
