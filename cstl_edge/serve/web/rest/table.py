"""Every operation of REST, in the order in which they are described."""

from __future__ import annotations

from cstl_edge.serve.web.rest import cameras, enrol, events, people, service, session, visits
from cstl_edge.serve.web.rest.operations import Operation

OPERATIONS: tuple[Operation, ...] = (
    *session.OPERATIONS,
    *cameras.OPERATIONS,
    *events.OPERATIONS,
    *visits.OPERATIONS,
    *people.OPERATIONS,
    *enrol.OPERATIONS,
    *service.OPERATIONS,
)
