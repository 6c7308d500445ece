"""LoCoMo: conversations with questions, read from its file."""

import json
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.tasks.datasets import locomo

TURNS: list[dict[str, object]] = [
    {"speaker": "Ada", "dia_id": "D1:1", "text": "Hey Bo!"},
    {"speaker": "Bo", "dia_id": "D1:2", "text": "Look.", "blip_caption": "a photo of a dog"},
    {"speaker": "Bo", "dia_id": "D1:3", "text": "", "blip_caption": "a cat"},
]


def question(category: int = 4, **changes: object) -> dict[str, object]:
    record: dict[str, object] = {"question": "What?", "category": category, "evidence": ["D1:1"]}
    key = "adversarial_answer" if category == 5 else "answer"
    return record | {key: "a dog"} | changes


def conversation(name: str = "conv-1", *qa: object, **changes: object) -> dict[str, object]:
    turns: dict[str, object] = {
        "speaker_a": "Ada",
        "speaker_b": "Bo",
        "session_10_date_time": "9:00 am on 9 June, 2023",
        "session_10": [{"speaker": "Ada", "dia_id": "D10:1", "text": "Bye."}],
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": TURNS,
        "session_11_date_time": "1:00 pm on 1 July, 2023",
    }
    return {"sample_id": name, "conversation": turns | changes, "qa": list(qa) or [question()]}


def write(folder: Path, rows: object) -> Path:
    path = folder / "locomo10.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def read_one(folder: Path, *qa: object) -> locomo.Conversation:
    [only_conversation] = locomo.read_conversations(
        write(folder, [conversation("c", *qa)]), allow_other_version=True
    )
    return only_conversation


def test_a_conversation_is_a_document(tmp_path: Path):
    talk = read_one(tmp_path, question(2, answer=2022), question(5))
    document = locomo.to_document(talk)
    assert (document.name, document.title) == ("c", "Ada and Bo")
    assert document.text == (
        "Conversation of 1:56 pm on 8 May, 2023\nAda: Hey Bo!\n"
        "Bo: Look. [sends a picture: a photo of a dog]\nBo:  [sends a picture: a cat]\n\n"
        "Conversation of 9:00 am on 9 June, 2023\nAda: Bye."
    )
    temporal, adversarial = document.questions
    assert (temporal.answers, temporal.kind, temporal.evidence) == (
        ("2022",),
        "temporal",
        ("D1:1",),
    )
    assert "dates" in temporal.prompt
    assert (adversarial.answers, adversarial.kind) == ((), "adversarial")
    assert talk.questions[1].trap == "a dog"


@pytest.mark.parametrize(
    ("references", "evidence", "unknown"),
    [
        (["D1:1; D1:2"], ("D1:1", "D1:2"), ()),
        (["D1:1 D10:1", "D1:1"], ("D1:1", "D10:1"), ()),
        (["D:10:01"], ("D10:1",), ()),
        (["D", "D1:9 D1:1"], ("D1:1",), ("D", "D1:9 D1:1")),
        ([], (), ()),
    ],
)
def test_references_to_evidence_are_read_in_all_their_forms(
    tmp_path: Path, references: list[str], evidence: tuple[str, ...], unknown: tuple[str, ...]
):
    [only_question] = read_one(tmp_path, question(evidence=references)).questions
    assert (only_question.evidence, only_question.lost_evidence) == (evidence, unknown)


def test_an_adversarial_question_may_have_an_answer(tmp_path: Path):
    talk = read_one(tmp_path, question(5, answer="No"))
    assert talk.questions[0].answer == "No"
    assert locomo.to_document(talk).questions[0].answers == ("No",)


def all_conversations() -> list[dict[str, object]]:
    counts = {1: 282, 2: 321, 3: 96, 4: 841, 5: 446}
    qa = [question(category) for category, n in counts.items() for _ in range(n)]
    return [conversation(f"c{i}", *qa[i::10]) for i in range(10)]


def test_a_file_with_another_number_of_questions_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"must have 10 conversations with 1,986 questions.*got 9"):
        locomo.read_conversations(write(tmp_path, all_conversations()[:9]))


def test_another_file_with_the_published_numbers_is_refused(tmp_path: Path):
    path = write(tmp_path, all_conversations())
    with pytest.raises(DataError, match=r"is not locomo10\.json as published.*altered"):
        locomo.read_conversations(path)
    assert len(locomo.read_conversations(path, allow_other_version=True)) == 10


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([conversation(), conversation()], "sample_id 'conv-1' occurs twice"),
        ([conversation(session_10=TURNS)], "dia_id 'D1:1' occurs twice"),
        ([conversation("c", question(6))], "qa 1: category must be 1..5, got 6"),
        (
            [conversation("c", {"question": "?", "category": 1, "evidence": []})],
            "answer is missing",
        ),
        ([conversation("c", question(4, answer=True))], "answer must be text that is not empty"),
        ([conversation("c", question(evidence="D1:1"))], "evidence must be a list"),
        ([conversation(session_1=[{"speaker": "Ada", "dia_id": "D1:1"}])], "text is missing"),
        ([conversation(session_1=[TURNS[0] | {"text": ""}])], "session_1 1: text must be text"),
        ([conversation(session_12=TURNS[:1])], "session_12_date_time is missing"),
        ([{"sample_id": "c", "conversation": {"speaker_a": "Ada"}}], "has no session"),
        ([{"sample_id": "c", "conversation": [], "qa": []}], "must be a JSON object"),
        ([{"sample_id": "c", "dialogs": []}], "conversation is missing"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, rows: object, message: str):
    with pytest.raises(DataError, match=message):
        locomo.read_conversations(write(tmp_path, rows), allow_other_version=True)


def test_a_truncated_file_is_called_half_downloaded(tmp_path: Path):
    path = write(tmp_path, [conversation()])
    path.write_text(path.read_text(encoding="utf-8")[:-30], encoding="utf-8")
    with pytest.raises(DataError, match=r"not JSON: .*half-downloaded"):
        locomo.read_conversations(path)


def test_turn_ids_of_thousands_of_digits_are_no_turn_ids(tmp_path: Path):
    talk = read_one(tmp_path, question(evidence=["D1:" + "1" * 5000, "D1:1"]))
    assert talk.questions[0].evidence == ("D1:1",)
