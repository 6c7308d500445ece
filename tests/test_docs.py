"""Every code block of the README and the docs runs, in order, page by page, in an empty folder.

Python blocks are executed in one namespace for each page. Console blocks are commands of
`lorabank`, run through the command line's own entry. Blocks with a title are files the page tells
the reader to write. `text` blocks are only shown.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lorabank.cli.main import main
from lorabank.cli.reference import reference
from tests.synthesis import chat_server

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GENERATED = {"LOG.md", "cli.md"}
SHOWN_ONLY = {"text", ""}
BLOCK = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for match in BLOCK.finditer(page.read_text("utf-8")):
        yield Block(match[1], match[2], match[3])


def run_command(line: str) -> None:
    before = sys.argv
    sys.argv = shlex.split(line)
    assert sys.argv[0] == "lorabank", line
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        sys.argv = before
    assert not stop.value.code, line


def write_reply(body: chat_server.Body) -> str:
    """Score an answer if a judge asks, else write questions about the passage."""
    if "score" in body["messages"][-1]["content"].lower():
        return json.dumps({"rationale": "The answer names the keeper.", "score": 9})
    return chat_server.write_questions(body)


@pytest.mark.real
@pytest.mark.usefixtures("kept_base")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if page.name in GENERATED:
        pytest.skip("holds no examples of its own")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    with chat_server.serving(write=write_reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        for block in blocks(page):
            if block.title:
                path = tmp_path / block.title
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, "utf-8")
            elif block.language == "python":
                exec(compile(block.text, page.name, "exec"), namespace)
            elif block.language == "console":
                for line in block.text.splitlines():
                    if line.startswith("$ "):
                        run_command(line.removeprefix("$ "))
            else:
                assert block.language in SHOWN_ONLY, f"{page.name}: {block.language!r} is not run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in LINK.findall(page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_reference_of_commands_is_up_to_date():
    assert (ROOT / "docs" / "cli.md").read_text("utf-8") == reference(), "run make docs"


STEP = re.compile(r"^\| \d+ \| `([\w/]+\.py)` \| (.*) \|$", re.MULTILINE)


def test_the_walks_through_the_code_name_files_and_functions_that_exist():
    steps = STEP.findall((ROOT / "docs" / "architecture.md").read_text("utf-8"))
    assert len(steps) > 20
    for file, text in steps:
        code = (ROOT / "src" / "lorabank" / file).read_text("utf-8")
        for name in re.findall(r"`([A-Za-z_.]+)`", text):
            assert name.split(".")[-1] in code, f"{file} has no {name}"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150
