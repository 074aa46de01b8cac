"""The released network as its key table describes it, apart from ours: plain, functional, slow.

It takes a state dict by the released names and works in the released layout: grouped 1-D
convolutions on [n, k*c, t], channel k*c + i, concatenations per part as [frame | short | long].
Letters: n sequences, t frames, k parts, c channels, d embedding dimensions.
"""

import torch
import torch.nn.functional as F


def released_state(parts, widths, embedding, classes, seed=0):
    """Random tensors under all names of the released network, norms away from identity.

    They make embeddings of order 1, so that 1e-5 is some hundred roundings of float32.
    """
    random = torch.Generator().manual_seed(seed)
    k, c = parts, widths[-1]
    r, wide = max(1, c // 16), max(1, 3 * c // 16)

    def weight(*shape, fan):
        return torch.randn(shape, generator=random) / fan**0.5

    state = {"fc_bin": weight(k, 3 * c, embedding, fan=3 * c)}
    for i, (inputs, outputs) in enumerate(zip((1, *widths[:-1]), widths, strict=True), 1):
        key = f"conv2d_{i}.forward_block.conv2d.weight"
        state[key] = weight(outputs, inputs, 3, 3, fan=9 * inputs)

    def norm(key, channels):
        state[f"{key}.weight"] = 0.5 + torch.rand(channels, generator=random)
        state[f"{key}.bias"] = weight(channels, fan=25)
        state[f"{key}.running_mean"] = weight(channels, fan=25)
        state[f"{key}.running_var"] = 0.5 + torch.rand(channels, generator=random)
        state[f"{key}.num_batches_tracked"] = torch.tensor(7)

    state["multi_scale.score.0.weight"] = weight(k * r, c, 1, fan=c)
    norm("multi_scale.score.1", k * r)
    state["multi_scale.score.3.weight"] = weight(k * c, r, 1, fan=r)
    for i in range(2):
        state[f"multi_scale.short_term.{i}.0.weight"] = weight(k * c, c, 3, fan=3 * c)
        norm(f"multi_scale.short_term.{i}.1", k * c)
    state["adaptive_aggregation.in_conv.weight"] = weight(k * wide, 3 * c, 1, fan=3 * c)
    state["adaptive_aggregation.out_conv.weight"] = weight(k * 3 * c, wide, 1, fan=wide)
    state["salient_learning.part_score.0.weight"] = weight(k * wide, 3 * c, 1, fan=3 * c)
    norm("salient_learning.part_score.1", k * wide)
    state["salient_learning.part_score.3.weight"] = weight(k, wide, 1, fan=wide)
    state["salient_learning.decay_channel.weight"] = weight(k * c, 3 * c, 1, fan=3 * c)
    for part in range(k):
        norm(f"salient_learning.bn.{part}", c)
    state["salient_learning.fc"] = weight(1, c, classes, fan=c)
    return state


def released_network(state, silhouettes):
    """Embeddings [n, k, d] and class logits [n, k, classes] of uint8 [n, t, h, w], in float64."""
    state = {key: t.double() for key, t in state.items()}
    n, t = silhouettes.shape[:2]
    x = silhouettes.double().flatten(0, 1).unsqueeze(1) / 255  # [n*t, 1, h, w]
    for i in range(1, 5):
        x = F.conv2d(x, state[f"conv2d_{i}.forward_block.conv2d.weight"], padding=1)
        x = F.leaky_relu(x, 0.01)
        if i == 2:
            x = F.max_pool2d(x, 2, 2)
    rows = x.amax(3) + x.mean(3)  # [n*t, c, k]: a part is a row of the map
    c, k = rows.shape[1:]
    frame = rows.reshape(n, t, c, k).permute(0, 3, 2, 1)  # [n, k, c, t]
    short, long = short_term(state, frame), long_term(state, frame)
    temporal = aggregate(state, frame, frame + short, frame + short + long)  # [n, k, c]
    weighted, salient = salience(state, frame, short, long)  # [n, k, c] each
    joined = torch.cat((temporal, weighted, salient), 2)  # [n, k, 3c]
    embedding = torch.einsum("nki,kid->nkd", joined, state["fc_bin"])
    return embedding, class_logits(state, weighted)


def grouped(x, weight, padding=0):
    """A 1-D convolution with a group per part, [n, k, i, t] -> [n, k, o, t]."""
    n, k, _, t = x.shape
    y = F.conv1d(x.flatten(1, 2), weight, padding=padding, groups=k)
    return y.reshape(n, k, -1, t)


def batch_norm(x, state, key):
    """Batch norm in evaluation on the channels k*o of [n, k, o, t]."""
    names = ("running_mean", "running_var", "weight", "bias")
    mean, var, scale, shift = (state[f"{key}.{name}"][:, None] for name in names)
    y = (x.flatten(1, 2) - mean) / torch.sqrt(var + 1e-5) * scale + shift
    return y.reshape(x.shape)


def short_term(state, x):
    """Two convolutions over three frames in a row, each with its norm, added."""
    key = "multi_scale.short_term"
    first = batch_norm(grouped(x, state[f"{key}.0.0.weight"], 1), state, f"{key}.0.1")
    second = batch_norm(grouped(first, state[f"{key}.1.0.weight"], 1), state, f"{key}.1.1")
    return first + second


def mlp(state, key, x):
    hidden = batch_norm(grouped(x, state[f"{key}.0.weight"]), state, f"{key}.1")
    return torch.sigmoid(grouped(F.leaky_relu(hidden, 0.01), state[f"{key}.3.weight"]))


def long_term(state, x):
    """One vector per sequence and part, the same for all frames."""
    score = mlp(state, "multi_scale.score", x)
    mean = (score * x).sum(3, keepdim=True) / score.sum(3, keepdim=True)
    return mean.expand_as(x)


def aggregate(state, *scales):
    """ATA on the accumulated scales, [n, k, c, t] each -> [n, k, c]."""
    n, k, c, t = scales[0].shape
    x = torch.cat(scales, 2)  # [n, k, 3c, t]
    hidden = F.leaky_relu(grouped(x, state["adaptive_aggregation.in_conv.weight"]), 0.01)
    a = torch.sigmoid(grouped(hidden, state["adaptive_aggregation.out_conv.weight"]))
    a, x = a.reshape(n, k, 3, c, t), x.reshape(n, k, 3, c, t)
    return F.leaky_relu((a * x).sum((2, 4)) / a.sum((2, 4)), 0.01)


def salience(state, frame, short, long):
    """SSFL: the score-weighted vector and the features of each part's best frame."""
    x = torch.cat((frame, short, long), 2)  # [n, k, 3c, t]
    score = mlp(state, "salient_learning.part_score", x)  # [n, k, 1, t]
    decayed = grouped(x, state["salient_learning.decay_channel.weight"])  # [n, k, c, t]
    weighted = (score * decayed).sum(3) / score.sum(3)
    salient = torch.empty_like(weighted)
    for b in range(frame.shape[0]):
        for part in range(frame.shape[1]):
            best = int(score[b, part, 0].argmax())
            salient[b, part] = frame[b, part, :, best]
    return weighted, salient


def class_logits(state, weighted):
    """A norm per part, then one matrix for all of them."""
    columns = []
    for part in range(weighted.shape[1]):
        x = weighted[:, part, None, :, None]  # [n, 1, c, 1]
        normed = batch_norm(x, state, f"salient_learning.bn.{part}")[:, 0, :, 0]
        columns.append(normed @ state["salient_learning.fc"][0])
    return torch.stack(columns, 1)
