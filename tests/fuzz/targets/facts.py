"""Facts files, question files and the files of published tasks."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lorabank.bank.compare import read_questions as read_labelled
from lorabank.engine.learn import hash_examples
from lorabank.synthesis.judge_summary import read_answers
from lorabank.tasks.datasets import (
    checksums,
    counterfact,
    gutenberg,
    infinitebench,
    locomo,
    longbench,
    longmemeval,
    narrativeqa,
    paperqa,
    quality,
    squad,
)
from lorabank.tasks.examples import read_examples
from lorabank.tasks.scoring.letters import letter
from lorabank.tasks.scoring.text_metrics import exact_match, token_f1
from tests.fuzz.runner import Target

CSV = (
    'prompt,answer\nWho keeps the lamp?,Tuva Sorre\n"When, then?","in ""1887"""\n',
    '\ufeffid,prompt,answer\r\n1,Café?,Ilse\r\n2,Wo?,"zwei\nZeilen"\r\n',
    "text\nQuestion: What is the phone number of Bo Lu? Answer: 603-556-7631\n",
)
JSONL = (
    '{"prompt": "Who?", "answer": "Tuva"}\n{"prompt": "When?", "answer": "1887", "id": 3}\n',
    '{"messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Who?"}, '
    '{"role": "assistant", "content": "Tuva"}]}\n',
)
OF_OTHERS = (
    {"instruction": "Translate.", "input": "Hus", "output": "<think>a</think>House", "history": []},
    {"system": "Be brief", "conversations": [{"from": "human", "value": "Who?"},
     {"from": "gpt", "value": "```\nTuva\n```"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "When?"}]},
     {"role": "assistant", "content": "1887"}]},
    {"prompt": [{"role": "user", "content": "Why?"}],
     "completion": [{"role": "assistant", "content": "x"}]},
)  # fmt: skip
LABELLED = {"question": "Who?", "answer": "Tuva", "document": "a.md"}
JUDGED = {"question": "Who?", "gold": ["Tuva"], "answer": "Ilse", "document": "d", "gain": 0.5}
CONVERSATION = {
    "sample_id": "c1",
    "conversation": {
        "speaker_a": "Ilse",
        "speaker_b": "Tuva",
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [
            {"speaker": "Ilse", "dia_id": "D1:1", "text": "I bought a boat."},
            {"speaker": "Tuva", "dia_id": "D1:2", "text": "", "blip_caption": "a lamp"},
        ],
        "session_2": [],
    },
    "qa": [
        {"question": "What?", "answer": 2022, "evidence": ["D1:1; D1:02"], "category": 2},
        {"question": "Why?", "adversarial_answer": "x", "evidence": [], "category": 5},
    ],
}
CHAT = {
    "question_id": "q_abs",
    "question_type": "temporal-reasoning",
    "question": "Who?",
    "answer": 3,
    "question_date": "2023/05/30 (Tue) 23:40",
    "haystack_session_ids": ["s1"],
    "haystack_dates": ["2023/05/20 (Sat) 02:21"],
    "haystack_sessions": [[{"role": "user", "content": "hi", "has_answer": True}]],
    "answer_session_ids": ["s1"],
}
CHOICES = {f"choice_{letter}": text for letter, text in zip("ABCD", "wxyz", strict=True)}
LONGBENCH = {
    "_id": "a", "domain": "D", "sub_domain": "S", "difficulty": "easy", "length": "short",
    "question": "Who?", **CHOICES, "answer": "A", "context": "Nebo",
}  # fmt: skip
NOVEL = {"id": 0, "context": "Nebo", "input": "Who?", "answer": ["Tuva"], "options": []}
NOVEL_CHOICE = {**NOVEL, "options": ["Tuva", "Ilse", "Berta", "Alma"], "answer": ["Tuva", "A"]}
ARTICLE = {
    "article": "Nebo is old.", "question": "Who?", "options": ["a", "b", "c", "d"], "answer": 0,
    "hard": True,
}  # fmt: skip
BOOK = {"doc_id": "1", "token_count": 9, "summary": "A lamp.", "normalized_text": "The lamp burns."}
PASSAGE = {
    "id": 1, "title": "T", "context": "Tuva keeps it.",
    "questions": [{"question": "Who?", "answer": "Tuva"}], "completions": ["x"],
}  # fmt: skip
EDIT = {
    "case_id": 1,
    "requested_rewrite": {
        "prompt": "{} is in", "subject": "Nebo", "target_new": {"str": "Rome"},
        "target_true": {"str": "Oslo"}, "relation_id": "P17",
    },
    "paraphrase_prompts": ["Nebo lies in"],
    "neighborhood_prompts": ["Oslo is in"],
}  # fmt: skip
PAPER = {
    "id": 7,
    "title": "T",
    "introduction": "I",
    "QA": [
        {"question": f"q{level}{i}?", "answer": "a", "level": level}
        for level in (1, 2, 3)
        for i in range(10)
    ],
}
EMPTY = hashlib.sha256().hexdigest()
BOOK_TEXT = (
    "*** START OF THIS PROJECT GUTENBERG EBOOK NEBO ***\nProduced by Bo\nLu\n\nOne.\n\n\n\nTwo "
    "[Illustration: x] <i>three</i>\n\n*** END OF THIS PROJECT GUTENBERG EBOOK\nEnd of Project "
    "Gutenberg's Nebo"
)


def targets() -> Iterator[Target]:
    yield _file("facts-csv", "f.csv", _read_facts, *CSV)
    yield _file("facts-jsonl", "f.jsonl", _read_facts, *JSONL)
    yield _file("facts-of-others", "f.jsonl", _read_facts, _jsonl(*OF_OTHERS))
    yield _file("facts-json", "f.json", _read_facts, json.dumps(OF_OTHERS))
    yield _file("questions-csv", "f.csv", read_labelled, "question,answer,document\nWho?,Tuva,a\n")
    yield _file("questions-jsonl", "f.jsonl", read_labelled, _jsonl(LABELLED))
    yield _file("judge-file", "f.jsonl", read_answers, _jsonl(JUDGED, {**JUDGED, "gold": "x"}))
    yield _file("locomo", "f.json", _other(locomo.read_conversations), json.dumps([CONVERSATION]))
    yield _file("longmemeval", "f.json", _other(longmemeval.read_questions), json.dumps([CHAT]))
    yield _file("longbench", "f.json", _other(longbench.read_questions), json.dumps([LONGBENCH]))
    yield _file(
        "infinitebench",
        "f.jsonl",
        _other(infinitebench.read_books),
        _jsonl(NOVEL),
        _jsonl(NOVEL_CHOICE),
    )
    yield _file("quality", "f.jsonl", _other(quality.read_articles), _jsonl(ARTICLE, ARTICLE))
    yield _file("narrativeqa-books", "f.jsonl", narrativeqa.read_books, _jsonl(BOOK))
    questions = _jsonl({"question": "Who?", "answers": ["Tuva", "T. Sorre"]})
    yield _file("narrativeqa-questions", "f.jsonl", narrativeqa.read_questions, questions)
    yield _file("squad", "f.jsonl", squad.read_passages, _jsonl(PASSAGE))
    yield _file("counterfact", "f.json", counterfact.read_master, json.dumps([EDIT]))
    yield Target("counterfact-slice", [b"text\nNebo is in Rome\n"], _read_slice)
    yield Target("paperqa", [json.dumps([PAPER]).encode()], _read_papers)
    yield Target("checksums", [f"{EMPTY}  f.txt\n\n{EMPTY.upper()} *f.txt\n".encode()], _verify)
    yield Target("gutenberg", [BOOK_TEXT.encode()], _clean_book)
    yield Target("scores", [b"The answer is (C).\nC: the lamp\n"], _score)


def _file(name: str, file: str, read: Callable[[Path], Any], *samples: str) -> Target:
    def read_bytes(data: bytes, folder: Path) -> object:
        path = folder / file
        path.write_bytes(data)
        return read(path)

    return Target(name, [sample.encode() for sample in samples], read_bytes)


def _other(read: Callable[..., Any]) -> Callable[[Path], Any]:
    return lambda path: read(path, allow_other_version=True)


def _jsonl(*records: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def _read_facts(path: Path) -> object:
    """Return the hash of the facts, for which they must be text that can be written."""
    return hash_examples(read_examples(path))


def _read_slice(data: bytes, folder: Path) -> object:
    (folder / "s.csv").write_bytes(data)
    (folder / "s_meta.json").write_text('{"subjects": ["Nebo"]}')
    return counterfact.read_slice(folder / "s.csv")


def _read_papers(data: bytes, folder: Path) -> object:
    (folder / "paperQA.json").write_bytes(data)
    pairs = [{"question": f"[Paper ID: 7] t{i}?", "answer": "a"} for i in range(40)]
    (folder / "paper_7_QA40.jsonl").write_text(_jsonl(*pairs))
    return paperqa.read_papers(folder)


def _verify(data: bytes, folder: Path) -> object:
    (folder / checksums.NAME).write_bytes(data)
    (folder / "f.txt").touch()
    return checksums.verify(folder)


def _clean_book(data: bytes, folder: Path) -> object:
    return gutenberg.clean(data.decode("utf-8", "replace"))


def _score(data: bytes, folder: Path) -> object:
    reply, _, gold = data.decode("utf-8", "replace").partition("\n")
    options = (gold, "b", "c", "d")
    return letter(reply, options), token_f1(reply, gold), exact_match(reply, gold)
