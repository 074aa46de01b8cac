"""What an enrolment changed, and what of a person is still missing, in sentences."""

from __future__ import annotations

from cstl_edge.gallery.people import EnrolledPerson

GOOD_WALKS = 4  # of one person: recognition across views gains most up to here
OPPOSITE = {"left": "right", "right": "left", "towards": "away", "away": "towards"}


def seen_from(person: EnrolledPerson) -> str:
    """Return from which views and at which frame rates a person was enrolled."""
    views = sorted({walk.origin.view or "unknown" for walk in person.enrolments})
    rates = sorted({round(walk.origin.frames_per_second or 0) for walk in person.enrolments} - {0})
    words = f"walking {', '.join(views)}" if views != ["unknown"] else "directions not known"
    return words + (f", at {', '.join(map(str, rates))} frames per second" if rates else "")


def missing(person: EnrolledPerson) -> list[str]:
    """Return what more would help to recognise a person, most important first."""
    walks, advice = len(person.enrolments), []
    views = {walk.origin.view for walk in person.enrolments} - {None}
    if len(views) == 1:
        (view,) = views
        other = OPPOSITE.get(str(view), "another way")
        advice.append(f"seen from one side only: enroll a walk to the {other} too")
    if walks < GOOD_WALKS:
        advice.append(
            f"{walks} of {GOOD_WALKS} walks: more walks, from other sides and in other clothes,"
            " help most"
        )
    cameras = {walk.origin.camera for walk in person.enrolments} - {None}
    if len(cameras) == 1 and walks > 1:
        advice.append(f"seen by one camera only ({cameras.pop()})")
    return advice
