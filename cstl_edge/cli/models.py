"""Verb `models`: the models that come with the package, and their cards."""

from __future__ import annotations

from typing import Annotated

import typer

from cstl_edge.cli.console import print_result
from cstl_edge.cli.options import Json


def models(
    name: Annotated[
        str | None, typer.Argument(help="Model whose card to print (default: a list of all).")
    ] = None,
    json: Json = False,
) -> None:
    """List the shipped models, or print the card of one: its data, figures and limits."""
    from cstl_edge.runtime.shipped import shipped_model, shipped_models

    if name is not None:
        model = shipped_model(name)
        card = model.card()
        print_result({"name": name, "card": card}, card.rstrip(), json)
        return
    records, lines = [], []
    for model in shipped_models():
        manifest = model.manifest
        precisions = ["float32", *manifest.precisions]
        records.append(
            {
                "name": model.name,
                "default": model.is_default,
                "folder": str(model.folder),
                "network": model.network,
                "matching": model.matching,
                "precisions": precisions,
                "weights_sha256": manifest.weights_sha256,
                "megabytes": round(model.megabytes, 1),
            }
        )
        default = ", used where no model is given" if model.is_default else ""
        lines += [
            f"{model.name} ({model.megabytes:.1f} MB{default})",
            f"  {model.network}; {model.matching}; {', '.join(precisions)}",
            f"  weights sha256 {manifest.weights_sha256[:12]}; card: cstl-edge models {model.name}",
        ]
    print_result(records, lines or ["no model is shipped with this copy of cstl_edge"], json)
