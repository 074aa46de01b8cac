"""The verb `import-released`: a checkpoint of the authors' code becomes weights of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_released(
    file: Annotated[Path, typer.Argument(help="of the released code: .ptm, .pth or .safetensors")],
    output: Annotated[Path, typer.Option("-o", "--output", help="the .safetensors to write")],
    class_head: Annotated[
        bool, typer.Option("--class-head", help="keep the classes of its training too")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="print results as JSON")] = False,
) -> None:
    """Turn a checkpoint of the code that CSTL's authors released into weights to export."""
    from cstl_edge.cli_show import needs_torch, show
    from cstl_edge.errors import ConfigError, one_line

    if output.suffix != ".safetensors":
        raise ConfigError(f"expected a .safetensors file to write, got {one_line(output)}")
    with needs_torch("import-released"):
        from cstl_edge.training.checkpoint import save_checkpoint
        from cstl_edge.training.released import import_released as read
    network, about = read(file, class_head=class_head)
    digest = save_checkpoint(output, network, about, inference_only=not class_head)
    told = {"weights": str(output), "weights_sha256": digest, "config": network.config.to_dict()}
    (height, width), parts = network.config.size, network.config.parts
    lines = [
        f"wrote {output}: {height}x{width}, {parts} parts, {network.config.embedding} dimensions "
        f"each, sha256 {digest[:12]}…",
        f"  next: cstl-edge export {output} -o {output.with_suffix('')}",
    ]
    show({**told, "imported": about["imported"]}, "\n".join(lines), json)
