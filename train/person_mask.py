"""Make a small person network out of BlazePose lite, by the masks of a larger teacher.

    python train/person_mask.py teacher --onnx converted.onnx --run FOLDER
    python train/person_mask.py cut --teacher FOLDER/teacher.json --clip a.mp4 --clip b.mp4
    python train/person_mask.py student --teacher FOLDER/teacher.json --clip a.mp4 --photographs P

`teacher` makes a mask network, `teacher.onnx` with its manifest, out of what tf2onnx converts; the
notice of the shipped network says where that comes from. `cut` is the shipped one: smaller crops,
the last rows left out, one filter fitted by least squares, in minutes. `student` trains all layers
at 128 x 128; its state is kept in `--run`, and the same command goes on where it ended.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import onnx

from cstl_edge.config import load_config
from cstl_edge.errors import CstlEdgeError, DataError
from cstl_edge.runtime.masks.open import open_mask_network
from cstl_edge.silhouette import read_image
from cstl_edge.training.person_mask.clips import LabelledCrop, label_clips
from cstl_edge.training.person_mask.cut import cut_graph, fit_last, with_last
from cstl_edge.training.person_mask.export import export_network, to_onnx
from cstl_edge.training.person_mask.fit import FitSettings, fit, held_out_ious
from cstl_edge.training.person_mask.pictures import PictureMaker, draw_walkers
from cstl_edge.training.person_mask.teacher import write_teacher

LITE = Path(__file__).parents[1] / "cstl_edge" / "assets" / "person_mask.onnx"
CUT = "BlazePose lite at 192 pixels, its last rows fitted to BlazePose heavy"
STUDENT = "student of BlazePose heavy at 128 pixels, begun as BlazePose lite"


def student(args: argparse.Namespace, crops: list[LabelledCrop]) -> onnx.ModelProto:
    """Train, measure what is held out, return the graph.

    args: the arguments of the command
    crops: labelled people
    """
    settings = load_config(FitSettings, args.config, args.overrides)
    files = sorted(args.photographs.glob("*.jpg")) if args.photographs else []
    photographs = [read_image(file) for file in files]
    shown = [crop for crop in crops if not crop.held_out]
    maker = PictureMaker(shown, draw_walkers(settings.walkers), photographs)
    network = fit(settings, maker, LITE, args.run / "state.pt")
    ious = held_out_ious(network, crops)
    logging.info("%d crops held out: IoU %.3f", len(ious), ious.mean() if len(ious) else 0)
    return to_onnx(network)


def cut(args: argparse.Namespace, crops: list[LabelledCrop]) -> onnx.ModelProto:
    """Cut lite and fit its end; return the graph.

    args: the arguments of the command
    crops: labelled people
    """
    trunk = cut_graph(LITE)
    return with_last(trunk, fit_last(trunk, crops))


def main() -> None:
    """Run the command; errors end it with one line and their exit code."""
    try:
        command()
    except CstlEdgeError as err:
        print(f"error: {err}", file=sys.stderr)
        sys.exit(err.exit_code)


def command() -> None:
    """Label the clips, make the network, write it with its manifest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("kind", choices=("teacher", "cut", "student"))
    parser.add_argument("--onnx", type=Path, help="the teacher, as tf2onnx converts it")
    parser.add_argument("--teacher", type=Path, help="manifest of a mask network")
    parser.add_argument("--clip", type=Path, action="append", help="of people; repeatable")
    parser.add_argument("--every", type=int, default=7, help="frames between two that are labelled")
    parser.add_argument("--photographs", type=Path, help="folder of pictures without people")
    parser.add_argument("--config", type=Path, help="YAML file with settings of the student")
    parser.add_argument("-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--run", type=Path, default=Path("runs/person-mask"))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args.run.mkdir(parents=True, exist_ok=True)
    if args.kind == "teacher":
        if args.onnx is None:
            parser.error("teacher needs --onnx FILE")
        write_teacher(args.onnx, args.run / "teacher.onnx")
        return
    if args.teacher is None or args.clip is None:
        parser.error(f"{args.kind} needs --teacher MANIFEST and --clip VIDEO")
    crops = list(label_clips(args.clip, open_mask_network(args.teacher), args.every))
    shown = sum(not crop.held_out for crop in crops)
    logging.info("%d people labelled, %d of them held out", len(crops), len(crops) - shown)
    if not shown:
        raise DataError(
            "expected people of at least 70 pixels in the clips; the detector or the teacher found "
            "none that is not held out: give other clips, or a smaller --every"
        )
    make, name = (cut, CUT) if args.kind == "cut" else (student, STUDENT)
    export_network(make(args, crops), name, args.run / "person_mask_small.onnx")


if __name__ == "__main__":
    main()
