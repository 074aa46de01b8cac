"""The exports of `tests/golden`, and what spoils a copy of one."""

import hashlib
import json
from pathlib import Path

from onnx import TensorProto

GOLDEN = Path(__file__).parents[1] / "golden"


def edit_manifest(folder, change=lambda manifest: None, **values):
    """Change the manifest of a folder by a function of it, then key by key."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest | values))


def reseal(folder, name, data):
    """Write a graph into a folder and its sha256 into the manifest, as an attacker would."""
    (folder / name).write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: sha256}))


def weight(model):
    """Return the largest initializer of a graph."""
    return max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))


def point_outside(tensor):
    """Let a tensor point to another file for its numbers."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
