"""Settings reference: the sections of a training configuration, and environment variables."""

from __future__ import annotations

import ast

from source_text import cell, class_of, code_cell, fields_of, markdown_of

SETTINGS = "cstl_edge.training.settings"
SECTIONS = {  # key of the file: module and class
    "": (SETTINGS, "TrainConfig"),
    "model": ("cstl_edge.model.config", "CstlConfig"),
    "walkers": ("cstl_edge.data.walkers_dataset", "WalkersSettings"),
    "data": (SETTINGS, "DataSettings"),
    "sampler": (SETTINGS, "SamplerSettings"),
    "optimiser": (SETTINGS, "OptimiserSettings"),
    "augment": ("cstl_edge.data.augment", "Augmentation"),
    "evaluate": (SETTINGS, "EvaluateSettings"),
    "run": (SETTINGS, "RunSettings"),
}
ENVIRONMENT = {
    "XDG_CONFIG_HOME": "Folder that holds `cstl-edge/credentials`; `~/.config` without it.",
    "CSTL_EDGE_CREDENTIALS": "File of cameras' passwords, a line `NAME=USER:PASSWORD` for each "
    "`{NAME}` of an address; readable by you alone.",
    "CSTL_EDGE_GALLERY_PASSPHRASE": "Passphrase of an encrypted gallery.",
    "CSTL_EDGE_GALLERY_KEY_FILE": "Key file of an encrypted gallery, in place of a passphrase.",
    "CSTL_EDGE_GALLERY_NEW_PASSPHRASE": "Passphrase under which `gallery rekey` encrypts "
    "everything anew.",
    "CSTL_EDGE_TOKEN": "Token by which `--server` and `events` log in at a service.",
    "CSTL_EDGE_TOKEN_FILE": "File of that token, in its place.",
    "XDG_DATA_HOME": "Folder that holds `cstl-edge/gallery.db`, the default gallery; "
    "`~/.local/share` without it.",
    "XDG_CACHE_HOME": "Folder for what can be made again: plugins, models of the benchmark suite, "
    "caches of engines; `~/.cache` without it.",
    "CSTL_EDGE_CUDA_BACKEND": "CUDA library of the backend `tensorrt`: `cuda.bindings` or "
    "`pycuda`; the first that is installed without it.",
    "CSTL_EDGE_NVTX": "`1` marks stages for Nsight Systems as NVTX ranges (package `nvtx`).",
    "NOTIFY_SOCKET": "Socket by which systemd hears of `serve` (`Type=notify`); set by systemd.",
    "WATCHDOG_USEC": "Microseconds within which systemd wants a sign of life; set by systemd.",
    "WATCHDOG_PID": "Process that those are meant for; set by systemd.",
    "CUDA_VISIBLE_DEVICES": "GPU whose clocks and energy `bench` reads, as CUDA counts them.",
    "PGHOST": "Host of a gallery's server where its address has none; libpq reads more of its kind "
    "(`PGPASSWORD`, `PGPASSFILE`).",
    "PGPORT": "Port of a gallery's server where its address has none.",
    "PGSSLMODE": "How TLS is asked of a gallery's server where its address does not say it.",
    "PGSSLROOTCERT": "Certificate of the CA of a gallery's server, in the same way.",
    "CXX": "C++ compiler of a compiled run (`run.compile`); `g++`, then `clang++`, without it.",
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "Not read: what OpenCV's FFmpeg may open is set by us.",
    "OPENCV_FFMPEG_LOGLEVEL": "What FFmpeg prints; nothing without it.",
    "OMP_NUM_THREADS": "Threads of numpy's and torch's libraries; the runtime has its own number, "
    "`threads`.",
    "ORT_DISABLE_TELEMETRY": "1 unless you set it: ONNX Runtime sends nothing anywhere.",
    "WORLD_SIZE": "Number of training processes; set by torchrun.",
    "LOCAL_RANK": "Number of a training process on its machine; set by torchrun.",
}
HEAD = """# Settings

Made from the code by `python docs/scripts/reference.py`.

## Training configuration

A YAML file with these sections, or a preset of `train/configs/`. `-o SECTION.KEY=VALUE` changes one
setting on the command line, such as `-o optimiser.rate=1e-3`. An unknown key is refused with its
nearest known one. What `cstl-edge live` and its Python calls take is in
[PipelineOptions](python.md#pipelineoptions).
"""


def _summary(key: str) -> str:
    """Return the first line of the docstring of a section's class."""
    node, _ = class_of(*SECTIONS[key])
    return (ast.get_docstring(node) or "").split("\n")[0]


def settings_page() -> str:
    """Return the page."""
    parts = [HEAD]
    for key, (module, name) in SECTIONS.items():
        title = f"`{key}`" if key else "Sections"
        node, _ = class_of(module, name)
        prefix = f"{key}." if key else ""
        rows = [
            f"| `{prefix}{f.name}` | {code_cell(f.type)} | "
            f"{code_cell('' if f.default.endswith('()') else f.default)} | "
            f"{cell(f.meaning or _summary(f.name))} |"
            for f in fields_of(module, name)
        ]
        table = "\n".join(["| setting | type | default | meaning |", "|---|---|---|---|", *rows])
        parts.append(f"### {title}\n\n{markdown_of(ast.get_docstring(node))}\n\n{table}\n")
    rows = [f"| `{name}` | {cell(text)} |" for name, text in sorted(ENVIRONMENT.items())]
    table = "\n".join(["| variable | meaning |", "|---|---|", *rows])
    parts.append(f"## Environment variables\n\n{table}\n")
    return "\n".join(parts)
