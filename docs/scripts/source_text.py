"""Fields, functions and docstrings of the package as its source has them, without importing it."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECTION = re.compile(r"^(Args|Raises|Returns|Yields):$")
AFTER_HASH = re.compile(r"#\s*(.*)$")


@dataclass(frozen=True)
class Field:
    """One field of a class: its name, type, default and meaning, all as text."""

    name: str
    type: str
    default: str  # empty where one has to be given
    meaning: str


def class_of(module: str, name: str) -> tuple[ast.ClassDef, list[str]]:
    """Return the definition of a class, and the lines of its file."""
    path = ROOT / Path(*module.split(".")).with_suffix(".py")
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, text.splitlines()
    raise SystemExit(f"{path} has no class {name}: correct the list in docs/scripts")


def function_of(module: str, name: str) -> ast.FunctionDef:
    """Return the definition of a function of a module."""
    path = ROOT / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise SystemExit(f"{path} has no function {name}: correct the list in docs/scripts")


def fields_of(module: str, name: str) -> list[Field]:
    """Return the public fields of a class; a comment beside or a docstring below says the meaning.

    Comments above a field, and those that a docstring follows, are not taken.
    """
    node, lines = class_of(module, name)
    found = []
    for index, item in enumerate(node.body):
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
            continue
        if item.target.id.startswith("_") or "ClassVar" in ast.unparse(item.annotation):
            continue
        default, limits = _default(item.value)
        meaning = _meaning(node.body[index + 1 : index + 2], lines, item)
        words = " ".join(filter(None, [meaning, limits]))
        found.append(Field(item.target.id, ast.unparse(item.annotation), default, words))
    return found


def _default(value: ast.expr | None) -> tuple[str, str]:
    """Return the default as text, and what pydantic's Field demands."""
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) in ("Field", "field")):
        return ("" if value is None else ast.unparse(value)), ""
    words = {key.arg: ast.unparse(key.value) for key in value.keywords if key.arg}
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = ", ".join(f"{signs[k]} {v}" for k, v in words.items() if k in signs)
    factory = words.get("default_factory", "")
    factory = {"dict": "{}", "list": "[]", "": ""}.get(factory, "computed")
    return words.get("default", factory), f"({limits})" if limits else ""


def _meaning(following: list[ast.stmt], lines: list[str], item: ast.AnnAssign) -> str:
    if following and isinstance(following[0], ast.Expr):
        value = following[0].value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return " ".join(inspect.cleandoc(value.value).split())
    comment = AFTER_HASH.search(lines[(item.end_lineno or item.lineno) - 1])
    return sentence(comment[1]) if comment else ""


def sentence(text: str) -> str:
    """Return a text that begins with a capital, where it begins with a plain word."""
    first = text.split(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() and first.islower() else text


def signature(node: ast.FunctionDef, name: str, *, method: bool = False) -> str:
    """Return a call as it is written: one line, or an argument a line."""
    arguments = ast.unparse(node.args)
    if method:
        arguments = re.sub(r"^(self|cls)(, )?", "", arguments)
    arguments = re.sub(r"(: [^=]+?)=", r"\1 = ", arguments)
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{name}({arguments}){result}"
    if len(line) <= 90:
        return line
    parts = re.split(r", (?=[\w*]+(?::|=|$|,))", arguments)
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){result}"


def markdown_of(docstring: str | None) -> str:
    """Return a docstring in Google's convention as Markdown: sections become lists."""
    lines: list[str] = []
    section = ""
    for line in inspect.cleandoc(docstring or "").splitlines():
        if match := SECTION.match(line):
            section = match[1]
            lines += [f"**{section}**", ""]
        elif section and line.startswith("    ") and not line.startswith("     "):
            name, colon, text = line.strip().partition(": ")
            named = colon and section in ("Args", "Raises")
            lines.append(f"- `{name}`: {text}" if named else f"- {line.strip()}")
        elif section and line.startswith("     "):
            lines[-1] += " " + line.strip()
        elif section and not line.strip():
            section = ""
            lines.append("")
        else:
            lines.append(line)
    text = "\n".join(lines).strip()
    return re.sub(r"\n\n    (?=\S)", "\n\n\n    ", text)


def cell(text: str) -> str:
    """Return a text as the cell of a Markdown table."""
    return text.replace("|", r"\|").replace("\n", " ").replace("<", "&lt;")


def code_cell(text: str) -> str:
    """Return a code span for a cell, an empty text for none; a bar would end the cell."""
    return f"`{text}`".replace(" | ", " or ").replace("|", " or ") if text else ""
