"""Words for a command line that does not fit its verb: what was expected, what came."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, get_args

import typer

from cstl_edge.errors import UsageError, one_line

FAULTS = typer.BadParameter.__mro__[1:3]  # click's UsageError and ClickException, wherever they lie
KINDS = {int: "a whole number", float: "a number"}


def usage_error(err: Exception) -> UsageError:
    """Return the error of the package for one of click's."""
    context = getattr(err, "ctx", None)
    remedy = f"see {context.command_path} --help" if context else None
    return UsageError(_message(err), remedy=remedy)


def _message(err: Any) -> str:
    """Return what was expected and what came; click's own words where its exception says less."""
    parameter = getattr(err, "param", None)
    descriptor = getattr(parameter, "type_descriptor", None)
    if parameter is not None and type(err).__name__ == "MissingParameter":
        return f"expected {_name(parameter)}, which is missing"
    if descriptor is not None and hasattr(err.__cause__, "errors"):  # pydantic's
        value = err.__cause__.errors()[0].get("input")
        expected = _expected(parameter, descriptor.annotation)
        hint = _near(value, get_args(descriptor.annotation))
        return f"expected {_name(parameter)} {expected}, got {one_line(value, 60)!r}{hint}"
    text = str(getattr(err, "format_message", lambda: err)()).rstrip(". ")
    return text[:1].lower() + text[1:]


def _name(parameter: Any) -> str:
    option: str = max(parameter.opts, key=len)
    return option if option.startswith("-") else str(parameter.name).upper()


def _near(value: object, choices: Sequence[object]) -> str:
    """Return a question about the choice that was meant, where one is near."""
    names = [choice for choice in choices if isinstance(choice, str)]
    near = difflib.get_close_matches(str(value), names, n=1)
    return f": did you mean {near[0]}?" if near else ""


def _expected(parameter: Any, annotation: Any) -> str:
    """Return what fits a parameter: `left or right`, `a whole number from 1 to 2`."""
    choices = get_args(annotation)
    if choices and all(isinstance(choice, str) for choice in choices):
        *others, last = choices
        return f"{', '.join(others)} or {last}" if others else last
    kind = KINDS.get(annotation, "of another kind")
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if low is not None and high is not None:
        return f"{kind} from {low:g} to {high:g}"
    return f"{kind} of at least {low:g}" if low is not None else kind
