"""How the code reads: docstrings are sentences, names are nouns, functions fit on a screen."""

import ast
import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "lorabank"
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in FILES]
# Words that stand for something without saying what it is.
PRONOUNS = {
    "one",
    "some",
    "found",
    "told",
    "asked",
    "cut",
    "few",
    "mine",
    "its",
    "those",
    "these",
    "kept",
    "said",
    "heard",
    "given",
    "there",
    "here",
    "anew",
    "alike",
    "whose",
    "seated",
    "way",
    "ways",
    "seat",
    "seats",
    "lesson",
    "lessons",
    "probe",
    "probes",
    "guards",
    "shelf",
}
# A docstring that begins like this goes on from a name and cannot be read by itself.
FRAGMENTS = {
    "Of",
    "That",
    "As",
    "In",
    "It",
    "Its",
    "Those",
    "These",
    "What",
    "Where",
    "Which",
    "Who",
    "Whose",
    "With",
    "At",
    "By",
    "For",
    "From",
    "Between",
    "Beside",
    "Until",
    "How",
    "To",
    "On",
}
MOST_LINES, MOST_PARAMETERS = 60, 6
# Rooms of one kind of study have files of the same name on purpose.
PARALLEL = {"study", "report"}
COMMANDS = "cli"  # its files have the names of the commands


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Line, text and whether it is an attribute's, of every docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text, False
        body = getattr(node, "body", [])
        for field, after in itertools.pairwise(body if isinstance(body, list) else []):
            text = getattr(getattr(after, "value", None), "value", None)
            is_field = isinstance(field, ast.AnnAssign | ast.Assign)
            if is_field and isinstance(after, ast.Expr) and isinstance(text, str):
                yield after.lineno, text, True


def names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_names_say_what_they_hold(path: Path):
    vague = [(line, name) for line, name in names(parse(path)) if name.strip("_") in PRONOUNS]
    assert not vague


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_docstrings_are_sentences(path: Path):
    fragments = []
    for line, text, is_field in docstrings(parse(path)):
        first = text.strip().split("\n\n")[0].replace("\n", " ").strip()
        is_short = len(first.split()) < (2 if is_field else 3)
        ends = first.endswith((".", ":", "?", ";", "`"))
        if first.split()[0].strip("`,.") in FRAGMENTS or is_short or not ends:
            fragments.append((line, first))
    assert not fragments


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_functions_fit_on_a_screen(path: Path):
    long = []
    for node in functions(parse(path)):
        first = node.body[0].lineno if node.body else node.lineno
        n_lines = (node.end_lineno or first) - node.lineno + 1
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        n_parameters = len([p for p in parameters if p.arg not in ("self", "cls", "ctx")])
        if n_lines > MOST_LINES or n_parameters > MOST_PARAMETERS:
            long.append((node.lineno, node.name, n_lines, n_parameters))
    assert not long


def test_a_file_name_is_used_once():
    places = defaultdict(set)
    for path in FILES:
        parts = path.relative_to(SOURCE).parts
        if path.name != "__init__.py" and parts[0] != COMMANDS:
            places[path.name].add(parts[0] if parts[0] in PARALLEL else "/".join(parts))
    assert not {name: sorted(where) for name, where in places.items() if len(where) > 1}
