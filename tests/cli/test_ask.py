"""The commands `ask` and `compare`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import draft_from_examples
from lorabank.engine.backbone.base import load_info
from lorabank.engine.models.registry import find_model
from lorabank.engine.settings import TrainSettings
from lorabank.retrieval.documents import document_from_text
from lorabank.tasks.examples import from_pair

from .test_main import run

FACTS = [from_pair(f"What is the code of Gate {name}?", name[::-1]) for name in ("AB", "CD", "EF")]


@pytest.fixture(scope="module")
def bank_path(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bank with a module that knows FACTS and holds a short document."""
    base = load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")
    bank_path = tmp_path_factory.mktemp("banks") / "bank"
    document = document_from_text(
        "gates.md", "# Gates\n\n## Rust\n\nGate AB is red.", is_markdown=True
    )
    draft = draft_from_examples("gates", FACTS, source="gates.csv")
    settings = TrainSettings(r=4, alpha=8.0, lr=1e-2, exposures=150, batch_size=3)
    with Bank.create(bank_path, base=base) as bank:
        bank.write_all([replace(draft, documents=(document,))], settings=settings)
    return bank_path


def ask(
    capsys: pytest.CaptureFixture[str], bank_path: Path, question: str, *options: str
) -> tuple[int, str, str]:
    return run(capsys, "ask", question, "--bank", bank_path, "--max-new-tokens", "8", *options)


def test_the_adapter_is_asked_by_default(capsys: pytest.CaptureFixture[str], bank_path: Path):
    code, out, err = ask(capsys, bank_path, FACTS[0].question)
    assert (code, out.strip()) == (0, FACTS[0].answer)
    assert "from gates version 1, source gates.csv" in err


def test_answers_from_text_cite_it(capsys: pytest.CaptureFixture[str], bank_path: Path):
    code, _, err = ask(capsys, bank_path, "What colour is Gate AB?", "--with", "rag")
    assert code == 0
    assert "from the bare model, rag" in err
    assert "cites gates.md, Rust, characters 0-" in err
    code, out, _ = ask(
        capsys, bank_path, "What colour is Gate AB?", "--with", "adapter+icl", "--json"
    )
    answer = json.loads(out)
    assert (answer["used"], answer["module"]) == ("adapter+icl", "gates")
    (citation,) = answer["citations"]
    assert (citation["document"], citation["heading"], citation["start"]) == ("gates.md", "", 0)


def test_auto_explains_its_choice_with_the_costs(
    capsys: pytest.CaptureFixture[str], bank_path: Path
):
    code, out, _ = ask(capsys, bank_path, FACTS[1].question, "--with", "auto", "--explain")
    assert code == 0
    for column in ("way", "p", "tokens", "ms", "loads", "cost", "worth"):
        assert column in out
    assert "tokens read, first token after" in out
    code, out, _ = ask(
        capsys, bank_path, FACTS[1].question, "--with", "auto", "--explain", "--json"
    )
    assert json.loads(out)["choice"]["reason"]


def test_an_unknown_mode_is_refused_before_the_model_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    code, _, err = ask(capsys, tmp_path / "nowhere", "Who?", "--with", "magic")
    assert code == 2
    assert "--with must be one of none, exact, adapter, quote, rag" in err


def test_compare_prints_a_table_a_figure_and_json(
    capsys: pytest.CaptureFixture[str], bank_path: Path, tmp_path: Path
):
    questions, figure = tmp_path / "q.csv", tmp_path / "memories.png"
    lines = [f"{fact.question},{fact.answer},gates" for fact in FACTS]
    questions.write_text("\n".join(["question,answer,document", *lines]), "utf-8")
    common = ("compare", bank_path, questions, "--timed", "1", "--max-new-tokens", "8")
    code, out, _ = run(capsys, *common, "--plot", figure)
    assert code == 0
    assert "3 questions, 1 documents" in out
    for mode in ("none", "adapter", "rag", "icl", "adapter+rag", "adapter+icl", "auto"):
        assert f"\n{mode} " in out
    assert figure.read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(capsys, *common, "--json")
    memories = {memory["mode"]: memory for memory in json.loads(out)["memories"]}
    assert memories["adapter"]["once_s"]["training"] > 0
    assert memories["icl"]["prompt_tokens"] > memories["none"]["prompt_tokens"]


def test_compare_refuses_a_figure_that_is_no_png(
    capsys: pytest.CaptureFixture[str], bank_path: Path, tmp_path: Path
):
    code, _, err = run(
        capsys, "compare", bank_path, tmp_path / "q.csv", "--plot", tmp_path / "a.svg"
    )
    assert code == 2
    assert "--plot must be a .png file" in err
