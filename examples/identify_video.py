"""Say who walks in a video: one line per walker.

python examples/identify_video.py visitor.mp4 --gallery people.db
"""

from pathlib import Path

import typer

import cstl_edge as ce


def main(video: str, gallery: Path = Path("people.db"), fpir: float = 0.01) -> None:
    """Print the answer to each walker of VIDEO."""
    model = ce.load()
    with ce.Gallery.open(gallery, model=model, create=False) as people:
        for walk in ce.read_walks(video, model=model):
            decision = people.identify(walk.embeddings, fpir)
            reason = f" ({decision.reason.value})" if decision.reason else ""
            print(
                f"walker {walk.track}, {walk.frames} frames: {decision.name or 'unknown'}{reason}"
            )


if __name__ == "__main__":
    typer.run(main)
