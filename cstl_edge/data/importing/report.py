"""Report of an import: files, frames and sequences that were dropped, and the reasons.

Two kinds: bad files (damaged, misplaced, not what their name says), which `--max-bad` limits, and
sound frames or sequences of no use (nobody visible, too short), which are counted and no fault of
the source: recordings of CASIA-B begin and end with empty frames.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from cstl_edge.config import StrictModel
from cstl_edge.errors import DataError, one_line

DAMAGED = "damaged"
HARMFUL = "made to do harm"
LINK = "link out of the source"
NO_FILE = "not a file"
MISLABELLED = "named as of another recording"
ODD_SIZE = "another size than its sequence"
SEVERAL = "several pickles for one sequence"
NO_SILHOUETTES = "no silhouettes of a person"
BAD = frozenset({DAMAGED, HARMFUL, LINK, NO_FILE, MISLABELLED, ODD_SIZE, SEVERAL, NO_SILHOUETTES})

NO_IMAGES = "no images"
TOO_SHORT = "too few frames"
CUT = "cut to the frame limit"
SCALED = "of 0 and 1, taken as 0 and 255"

MAX_PATH = 1000  # characters
EXAMPLES = 3  # of each reason, in the index


@dataclass(frozen=True)
class Drop:
    """One file, frame or sequence that is not in the dataset."""

    path: str  # below the source; unprintable characters are escaped
    reason: str  # one of those above, or a silhouette.Refusal
    detail: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", one_line(self.path, MAX_PATH))
        object.__setattr__(self, "detail", one_line(self.detail))

    def to_json(self) -> str:
        """Return one line of `dropped.jsonl`."""
        return json.dumps(asdict(self))


class ImportReport(StrictModel):
    """The sum of all drops."""

    files: int  # images and pickles that were read
    bad: int  # those of them that are damaged, misplaced or not what their name says
    reasons: dict[str, int]  # how many files, frames and sequences were dropped, by reason
    examples: dict[str, list[str]]  # the first few paths of each reason
    notes: list[str]  # other remarks on the source

    def check(self, max_bad: float) -> None:
        """Raise TooManyBad when more than this share of the files is bad."""
        if self.bad <= max_bad * self.files:
            return
        reason = next(r for r in self.reasons if r in BAD)
        first = one_line(self.examples[reason][0], 80)
        raise TooManyBad(
            self,
            f"{self.bad} of {self.files} files are bad, first {first} ({reason}); expected at most "
            f"{max_bad:.2%}. Repair or remove them, or raise --max-bad",
        )


class TooManyBad(DataError):
    """More bad files than were allowed; holds the whole report."""

    def __init__(self, report: ImportReport, message: str) -> None:
        super().__init__(message)
        self.report = report


def summarise(drops: Iterable[Drop], files: int, notes: Iterable[str] = ()) -> ImportReport:
    """Count a source's drops by reason, in the order in which the reasons first occur.

    Args:
        drops: Files that were dropped, each with its reason.
        files: Number of files of the source, dropped ones included.
        notes: Remarks of the layout.
    """
    reasons: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for drop in drops:
        reasons[drop.reason] += 1
        if len(shown := examples.setdefault(drop.reason, [])) < EXAMPLES:
            shown.append(drop.path)
    bad = sum(count for reason, count in reasons.items() if reason in BAD)
    return ImportReport(
        files=files, bad=bad, reasons=dict(reasons), examples=examples, notes=list(notes)
    )
