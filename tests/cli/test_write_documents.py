"""The command `write` with documents."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lorabank.cli.main import app
from lorabank.errors import DataError, LorabankError, UnavailableError, UsageError
from lorabank.store.store import Store
from lorabank.synthesis.cache import ReplyCache
from tests.retrieval.pdf_writer import encrypt_pdf, make_pdf
from tests.synthesis.chat_server import Fault, Server, serving
from tests.synthesis.fact_documents import country, word

runner = CliRunner()
QUICK = ["--generator", "openai:small", "--formats", "qa:6", "--exposures", "2", "--device", "cpu"]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        yield running


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / f"{word(0)}.md").write_text(f"# On {word(0)}\n\n{country(0)}\n")
    (folder / f"{word(1)}.html").write_text(f"<h1>On {word(1)}</h1><p>{country(1)}</p>")
    (folder / f"{word(2)}.pdf").write_bytes(make_pdf([[(20, f"On {word(2)}"), *lines(2)]]))
    return folder


def lines(i: int) -> list[tuple[float, str]]:
    return [(11, f"{sentence}.") for sentence in country(i).rstrip(".").split(". ")]


@pytest.fixture
def bank(tiny_folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "bank"
    result = runner.invoke(app, ["init", str(path), "--base", str(tiny_folder)])
    assert result.exit_code == 0
    return path


def call(bank: Path, *args: object) -> str:
    command = ["write", *map(str, args), "--bank", str(bank)]
    result = runner.invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_folder_of_documents_becomes_a_module(
    server: Server, bank: Path, docs: Path, tmp_path: Path
):
    server.faults.append(Fault(content="Gladly!"))
    refused = tmp_path / "refused.jsonl"
    report = json.loads(call(bank, "lands", docs, *QUICK, "--refused", refused, "--json"))
    assert report["made"]["by_format"] == {"qa": 18}
    assert json.loads(refused.read_text())["text"] == "Gladly!"
    (module,) = report["modules"]
    assert (module["module"], module["facts"], module["passages"]) == ("lands", 14, 3)
    assert module["held_out"]["questions"] == 4
    assert report["plan"]["r"] == 8
    assert not list(docs.glob("*.jsonl"))
    shown = json.loads(runner.invoke(app, ["show", "lands", "--bank", str(bank), "--json"]).stdout)
    record = shown["versions"][0]["record"]
    assert record["held_out"] == module["held_out"]
    assert record["not_stuck"] == module["not_stuck"]
    n_requests = len(server.requests)
    text = call(bank, "lands", docs, *QUICK, "--replace", "--modules", "1")
    assert len(server.requests) == n_requests
    assert "cached from before" in text
    assert "lands version 2" in text
    assert "held out: 4 questions" in text
    assert "did not stick: " in text
    assert "pass 2" in text


def test_a_users_own_questions_are_not_trained_on(
    server: Server, bank: Path, docs: Path, tmp_path: Path
):
    held_out = tmp_path / "held.csv"
    held_out.write_text(f"prompt,answer\nWhat is the river of {word(1)}?,{word(111)}\n")
    report = json.loads(call(bank, "lands", docs, *QUICK, "--held-out", held_out, "--json"))
    assert report["made"]["refused"]["a question kept for measuring"] >= 1
    (module,) = report["modules"]
    assert module["held_out"]["questions"] == 1
    with Store.open(bank) as store:
        keys = {key.text for key in store.keys(store.current("lands"))}
    assert f"What is the river of {word(1)}?" not in keys
    assert f"What is the capital of {word(1)}?" in keys


def test_contradictions_between_documents_are_reported_with_both_sources(
    server: Server, bank: Path, tmp_path: Path
):
    for name, lake in (("one", "Baba"), ("two", "Cece")):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\nThe lake of Didi is {lake}.\n")
    text = call(bank, "m", tmp_path / "one.md", tmp_path / "two.md", *QUICK)
    assert "What is the lake of Didi? 'Baba' in “one” | 'Cece' in “two”" in text


LOCKED = encrypt_pdf(make_pdf([[(11, "Words")]]), user="x", owner="y")
BAD_REQUESTS: dict[str, tuple[str, bytes | None, list[str], type[LorabankError], str]] = {
    "empty": ("a.md", b" \n", [], DataError, "an empty file"),
    "binary": ("a.txt", b"\0\1\2", [], DataError, "not text, got NUL bytes"),
    "locked": (
        "a.pdf",
        LOCKED,
        [],
        DataError,
        "an encrypted PDF",
    ),
    "scan": ("a.pdf", make_pdf([[], []]), [], DataError, "as in a scan"),
    "large": ("a.md", b"x" * 2000, ["--limit-mb", "0.001"], DataError, "raise the limit with"),
    "latin": ("a.md", b"caf\xe9", [], DataError, "--encoding latin-1"),
    "encoding": ("a.md", b"caf\xe9", ["--encoding", "koi8-r"], DataError, "only latin-1"),
    "none": ("a.md", None, [], DataError, "no such file"),
    "kind": ("a.odt", b"x", [], DataError, "a document must be one of"),
    "each": ("a.md", b"x", ["--each"], UsageError, "--modules per-document"),
    "modules": ("a.md", b"Text.", ["--modules", "2"], UsageError, "--modules 2: a document goes"),
    "passes": ("a.md", b"Text.", ["--passes", "9"], UsageError, r"--passes must be 1\.\.5"),
    "chunk": ("a.md", b"Text.", ["--chunk-tokens", "0"], UsageError, "--chunk-tokens must be"),
    "formats": ("a.md", b"Text.", ["--formats", "rewite:2"], UsageError, "did you mean rewrite"),
    "workers": ("a.md", b"Text.", ["--workers", "0"], UsageError, r"--workers must be 1\.\.256"),
    "generator": (
        "a.md",
        b"Text.",
        ["--generator", "gpt"],
        UsageError,
        "must be rules, local, openai",
    ),
    "refused": ("a.md", b"T.", ["--refused", "/no/x"], UsageError, "--refused /no/x must be a"),
    "name": ("a.md", b"Text.", ["--name"], UsageError, "has a slash in it"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_requests_are_refused_before_any_request_to_the_server(
    server: Server, bank: Path, tmp_path: Path, case: str
):
    name, content, options, error, message = BAD_REQUESTS[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    module = "a/b" if options == ["--name"] else "m"
    extra = [] if options == ["--name"] else options
    with pytest.raises(error, match=message):
        call(bank, module, tmp_path / name, *QUICK, *extra)
    assert not server.requests
    with Store.open(bank) as store:
        assert store.names() == []


def test_examples_and_documents_do_not_go_into_one_module(bank: Path, docs: Path, tmp_path: Path):
    facts = tmp_path / "facts.csv"
    facts.write_text("prompt,answer\nWho?,Me\n")
    with pytest.raises(UsageError, match=r"facts\.csv holds examples and .*docs is a document"):
        call(bank, "m", facts, docs)
    with pytest.raises(UsageError, match="--chunk-tokens is for documents"):
        call(bank, "m", facts, "--chunk-tokens", "99")


def test_a_document_of_another_module_is_refused(server: Server, bank: Path, docs: Path):
    call(bank, "lands", docs, *QUICK, "--passes", "1")
    n_requests = len(server.requests)
    with pytest.raises(UsageError, match="is already held by module 'lands'"):
        call(bank, "other", docs / f"{word(0)}.md", *QUICK)
    with pytest.raises(UsageError, match="module 'lands' exists"):
        call(bank, "lands", docs, *QUICK)
    assert len(server.requests) == n_requests


def test_a_missing_key_is_refused_before_the_model_is_loaded(
    bank: Path, docs: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(UsageError, match="OPENAI_API_KEY is not set"):
        call(bank, "m", docs, *QUICK)


def test_a_document_of_which_every_reply_is_refused_fails_with_samples(
    server: Server, bank: Path, docs: Path
):
    server.faults.extend([Fault(content="Certainly! Here you are.")] * 99)
    with pytest.raises(UsageError, match=r"\.md: nothing fit .*Certainly! Here you are"):
        call(bank, "m", docs, *QUICK)
    with Store.open(bank) as store:
        assert store.names() == []


def test_finished_requests_are_kept_if_the_endpoint_fails(
    bank: Path, docs: Path, monkeypatch: pytest.MonkeyPatch
):
    busy = Fault(status=429, headers=(("Retry-After", "86400"),))  # longer than the client waits
    with serving([Fault(), *[busy] * 9]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        with pytest.raises(UnavailableError, match="what was finished is kept"):
            call(bank, "m", docs, *QUICK, "--workers", "1")
    with ReplyCache(bank / "derived" / "synthesis.sqlite") as cache:
        assert len(cache) == 1


def test_a_file_of_passages_is_both_document_and_generator(bank: Path, tmp_path: Path):
    rows = [
        {
            "title": f"On {word(i)}",
            "context": country(i),
            "questions": [{"question": "Which land?", "answer": word(i)}],
            "completions": [f"Of {word(i)} it is known: {country(i)}"],
        }
        for i in range(2)
    ]
    path = tmp_path / "passages.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    options = ["--generator", f"file:{path}", "--formats", "implications:1,original"]
    report = json.loads(
        call(bank, "m", path, *options, "--exposures", "1", "--passes", "1", "--json")
    )
    assert report["made"]["by_format"] == {"original": 2, "implications": 2}
    (module,) = report["modules"]
    assert (module["passages"], module["held_out"]) == (2, None)


def test_a_document_that_yields_nothing_can_be_skipped(server: Server, bank: Path, docs: Path):
    (docs / "poem.md").write_text("# Poem\n\nRoses are red, and nobody asks why they are.\n")
    with pytest.raises(UsageError, match=r"poem\.md: nothing fit .* --skip-failed"):
        call(bank, "m", docs, *QUICK)
    text = call(bank, "m", docs, *QUICK, "--skip-failed", "--passes", "1")
    assert "nothing made of   poem.md" in text
    with Store.open(bank) as store:
        assert "poem.md" not in [source.name for source in store.current("m").sources]


SHORT = ["--exposures", "1", "--passes", "1", "--device", "cpu"]


def test_rules_make_the_examples_where_no_generator_is_named(bank: Path, docs: Path):
    text = call(bank, "lands", docs, *SHORT, "--by-rule", "5")
    lines = text.splitlines()
    assert lines[0] == "examples          15 (15 qa)"
    assert "made by rule      15, without a model (15 definition); --by-rule would allow 3" in text
    assert "training takes    about" in text
    assert text.index("training takes") < text.index("lands version 1")
    with Store.open(bank) as store:
        version = store.current("lands")
        rows = [json.loads(line) for line in store.read(version, "examples.jsonl").splitlines()]
    assert {row["made_by"] for row in rows} == {"rule:definition"}
    assert len(rows) == 15


def test_rules_fill_what_the_base_as_generator_does_not_give(bank: Path, docs: Path):
    options = ["--generator", "local", "--formats", "qa:4", *SHORT, "--json"]
    report = json.loads(call(bank, "lands", docs, *options))
    assert report["made"]["by_rule"] == {"definition": 12}  # random weights give nothing
    assert report["made"]["generator"].startswith("local:")
    assert report["modules"][0]["facts"] == 12


def test_a_document_of_one_word_is_written(bank: Path, tmp_path: Path):
    (tmp_path / "a.txt").write_text("hello\n")
    report = json.loads(call(bank, "m", tmp_path / "a.txt", *SHORT, "--json"))
    assert report["made"]["by_rule"] == {"beginning": 1}


def test_rules_for_facts_are_what_facts_have_without_a_generator(bank: Path, tmp_path: Path):
    (tmp_path / "a.csv").write_text("prompt,answer\nWho keeps Nebo?,Sorre\n")
    args = [tmp_path / "a.csv", "--generator", "rules", "--exposures", "1", "--device", "cpu"]
    assert "m version 1" in call(bank, "m", *args)


OWN = "prompt,answer\nWho may enter?,Everybody\n{}\n"


def test_own_questions_and_documents_go_into_one_module(bank: Path, docs: Path, tmp_path: Path):
    capital = f"What is the capital of {word(0)}?"
    (tmp_path / "own.csv").write_text(OWN.format(f"{capital},{word(7)}"))
    args = ["--questions", tmp_path / "own.csv", "--wordings", "2", *SHORT, "--json"]
    report = json.loads(call(bank, "lands", docs, *args))
    (module,) = report["modules"]
    assert module["facts"] == 19
    assert report["made"]["refused"]["among your own questions"] == 1
    with Store.open(bank) as store:
        version = store.current("lands")
        rows = [json.loads(line) for line in store.read(version, "examples.jsonl").splitlines()]
        assert version.sources[-1].name == "own.csv"
    (taught,) = [row for row in rows if row["prompt"][-1]["content"] == capital]
    assert (taught["answer"], "made_by" in taught) == (word(7), False)
    assert [len(row.get("also", [])) for row in rows if "made_by" not in row] == [1, 1]
    assert not [row for row in rows if "made_by" in row and "also" in row]


def test_own_questions_beside_several_modules_have_a_module(bank: Path, docs: Path, tmp_path: Path):
    (tmp_path / "own.csv").write_text(OWN.format(""))
    args = ["--questions", tmp_path / "own.csv", "--modules", "per-document", "--by-rule", "2"]
    report = json.loads(call(bank, "lands", docs, *args, *SHORT, "--json"))
    assert [module["module"] for module in report["modules"]][-1] == "lands-questions"
    assert [module["facts"] for module in report["modules"]] == [2, 2, 2, 1]


def test_questions_need_documents_and_documents_no_examples_beside_them(
    bank: Path, docs: Path, tmp_path: Path
):
    own = tmp_path / "own.csv"
    own.write_text(OWN.format(""))
    with pytest.raises(UsageError, match=r"--questions is for documents"):
        call(bank, "lands", own, "--questions", own)
    with pytest.raises(UsageError, match=r"give the examples as --questions .*own\.csv"):
        call(bank, "lands", docs, own)


def test_a_plain_file_of_questions_is_a_generator(bank: Path, docs: Path, tmp_path: Path):
    rows = [
        (f"What is the {thing} of {word(i)}?", word(100 + 10 * i + k))
        for i in range(3)
        for k, thing in enumerate(("capital", "river"))
    ]
    path = tmp_path / "pairs.csv"
    path.write_text(
        "prompt,answer\n" + "".join(f"{q},{a}\n" for q, a in rows) + "Who is it?,Sorre\n"
    )
    args = ["--generator", f"file:{path}", *SHORT, "--refused", tmp_path / "r.jsonl", "--json"]
    report = json.loads(call(bank, "lands", docs, *args))
    assert report["made"]["by_format"] == {"qa": 6}
    assert report["made"]["by_rule"] == {}
    assert sum(report["made"]["refused"].values()) == 1
    lines = [{"prompt": q, "answer": a} for q, a in rows]
    other = tmp_path / "pairs.jsonl"
    other.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    args[1] = f"file:{other}"
    report = json.loads(call(bank, "lands", docs, *args, "--replace"))
    assert report["made"]["by_format"] == {"qa": 6}
