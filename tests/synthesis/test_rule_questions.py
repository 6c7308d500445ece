"""Questions made by rule: what each gives, what is never given, how passages share the most."""

import re

import pytest

from lorabank.bank.write.given_facts import facts_of_text
from lorabank.errors import UsageError
from lorabank.retrieval.documents import document_from_text
from lorabank.synthesis.example_synthesis import SynthesisOptions, synthesise
from lorabank.synthesis.formats import FormatKind, parse_formats
from lorabank.synthesis.inputs import chunk_documents
from lorabank.synthesis.item_checks import is_self_contained, refine_item
from lorabank.synthesis.results import MadeExample, SynthesisOutcome
from lorabank.synthesis.rule_questions import make_by_rule
from lorabank.synthesis.sources import SourceText, sources_from_chunks

HANDBOOK = """\
# The lighthouse at Nebo

The keeper of Nebo is Tuva Sorre. The lamp is an arc lamp of two thousand watts.
The foundation pays 75% of the oil and the county pays the remainder. It was never closed.

## Holidays

Every keeper takes 26 days of leave each year. Leave begins on May 2. You can carry up to
4 days over.

- Lamp oil: rapeseed
- **Weight**: 68.8 g
- `lamp_hours`: Hours for which the lamp burns each night.
- `--dim` - Sets the brightness of the lamp in percent.

| Bell | Tone | Metal |
| ---- | ---- | ----- |
| North | C | bronze |
| South | E | iron |

1. Fill the tank.
2. Light the wick.

## How do I call the keeper?

Ring the bell at the door.
"""


def sources_of(text: str, *, name: str = "nebo.md", size: int = 120) -> list[SourceText]:
    document = document_from_text(name, text, is_markdown=name.endswith(".md"))
    return sources_from_chunks(chunk_documents([document], size_tokens=size))


def answers_of(text: str, **options: object) -> dict[str, str]:
    made = make_by_rule(sources_of(text, **options))  # type: ignore[arg-type]
    return {item.question: item.answer for items in made for item in items}


def run(
    text: str, formats: str = "qa:20", *, size: int = 120, **options: object
) -> SynthesisOutcome:
    return synthesise(
        sources_of(text, size=size),
        parse_formats(formats),
        None,
        None,
        SynthesisOptions(**options),  # type: ignore[arg-type]
    )


def test_each_form_of_statement_becomes_a_question():
    answers = answers_of(HANDBOOK)
    wanted = {
        "Who is the keeper of Nebo?": "Tuva Sorre",
        "What is the lamp?": "an arc lamp of two thousand watts",
        "How much does the foundation pay of the oil?": "75%",
        "How many days does every keeper take of leave each year?": "26 days",
        "When does Leave begin?": "May 2",
        "What is the lamp oil of Holidays?": "rapeseed",
        "What is the weight of Holidays?": "68.8 g",
        "What is lamp_hours?": "Hours for which the lamp burns each night",
        "What does --dim do?": "Sets the brightness of the lamp in percent",
        "What is the tone of bell North?": "C",
        "What is the metal of bell South?": "iron",
        "What is step 2 of Holidays?": "Light the wick",
        "How do I call the keeper?": "Ring the bell at the door.",
    }
    for question, answer in wanted.items():
        asked = [q for q in answers if q.endswith(question[0].lower() + question[1:])]
        asked += [question] if question in answers else []
        assert [answers[q] for q in asked] == [answer], (question, answers)


def test_items_are_supported_self_contained_verbatim_and_short():
    for source, items in zip(sources_of(HANDBOOK), make_by_rule(sources_of(HANDBOOK)), strict=True):
        for item in items:
            refined, why = refine_item(item, FormatKind.QA, source)
            assert refined is not None, (item, why)
            assert is_self_contained(item.question)
            assert item.answer in item.sentence
            assert len(item.answer.split()) <= 24
            assert item.rule


def test_a_question_with_two_answers_names_its_heading_or_is_not_asked():
    table = "| Pin | Signal |\n| --- | --- |\n| 1 | {} |\n"
    text = "# Board\n\n## CAN port\n\n{}\n\n## SPI port\n\n{}\n".format(
        table.format("CAN H"), table.format("SCK")
    )
    assert answers_of(text) == {
        "What is the signal of pin 1, in “CAN port”?": "CAN H",
        "What is the signal of pin 1, in “SPI port”?": "SCK",
    }
    same_heading = "# Board\n\n- Volt: 3 V\n- Volt: 5 V\n- Weight: 2 g\n"
    assert answers_of(same_heading) == {"What is the weight of Board?": "2 g"}


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        ("It follows the rules of the National Trade Board (NTB).", "What does NTB stand for?",
         "National Trade Board"),
        ("To clean the lamp, use a soft brush.", "How do I clean the lamp?", "use a soft brush"),
        ("Run `lamp --dim` to lower the brightness.", "How do I lower the brightness?",
         "Run lamp --dim"),
        ("To print all settings:\n\n    lamp --settings\n", "How do I print all settings?",
         "lamp --settings"),
        ("To print all settings:\n\n```sh\nlamp --settings\n```\n", "How do I print all settings?",
         "lamp --settings"),
        ("The gallery is closed because the stairs are rotten.", "Why is the gallery closed?",
         "the stairs are rotten"),
        ("1. Print all settings: `lamp --settings`", "How do I print all settings?",
         "lamp --settings"),
        ("Warden: A person who looks after the lamp at night.", "What does “Warden” mean?",
         "A person who looks after the lamp at night"),
    ],
)  # fmt: skip
def test_what_is_said_in_passing_is_asked(sentence: str, question: str, answer: str):
    answers = answers_of(f"# Nebo\n\n{sentence}\n")
    named = f"Nebo: {question[0].lower()}{question[1:]}"
    assert answers.get(question, answers.get(named)) == answer, answers


@pytest.mark.parametrize(
    "text",
    [
        "# Nebo\n\n## Oil Board\n\nThe foundation has a contract with Oil Board.",
        "# Nebo\n\n## Notice\n\nYou are a guest of the foundation.",
        "# Nebo\n\nThe guest is eligible for all benefits offered by Tuva.",
        "# Nebo\n\nTo do it:\n\n    lamp --on\n    lamp --off\n",
        "# Nebo\n\nTo do this:\n\n    lamp --on\n",
    ],
)
def test_no_question_gives_its_answer_or_asks_what_cannot_be_known(text: str):
    assert not [question for question in answers_of(text) if not re.search("___|begin", question)]


def test_a_gap_is_never_a_word_that_says_little_or_stands_everywhere():
    nouns = ("harbour", "fortress", "bakery", "chapel", "meadow", "quarry")
    sentences = [f"Despite storms Nebo quickly becomes our crowded {noun}." for noun in nouns]
    sentences = [s.replace("storms", f"{s[-5:-1]}storms") for s in sentences]
    gaps = set(answers_of("# Isle\n\n" + "\n\n".join(sentences)).values())
    assert gaps
    assert not gaps & {"Nebo", "Despite", "quickly", "becomes", "crowded"}
    assert "V3" not in answers_of("# Lamp\n\nBeware of the Lamp Smart V3.0 in rain.").values()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("# Turm\n\nDer Turm in Nebo ist 42 Meter hoch und steht seit langer Zeit dort.\n", "42"),
        ("# Tour\n\nLe gardien du phare habite avec Tuva Sorre dans la maison.\n", "Tuva Sorre"),
        ("# 塔\n\n塔高42米。\n\n守塔人住在塔的旁边。\n", "42"),
        ("# Башня\n\nВысота башни составляет 42 метра над морем.\n", "42"),
    ],
)
def test_other_languages_get_sentences_with_a_gap(text: str, answer: str):
    answers = answers_of(text)
    assert answer in answers.values()
    assert all("___" in question for question in answers)


@pytest.mark.parametrize("text", ["hello", "```\nmake all\n```\n", "* a\n* b\n", "42", "x: y"])
def test_no_document_with_text_ends_with_nothing(text: str):
    (made,) = run(text).made[:1]
    assert made.rule
    assert "".join(made.answer.split()) in "".join(text.split())


def test_examples_name_their_rule_and_sentence():
    made = {example.prompt: example for example in run(HANDBOOK).made}
    keeper = next(e for prompt, e in made.items() if prompt.endswith("keeper of Nebo?"))
    assert (keeper.rule, keeper.sentence) == ("definition", "The keeper of Nebo is Tuva Sorre.")
    assert isinstance(keeper, MadeExample)
    prompts = [example.prompt.lower() for example in made.values()]
    assert len(prompts) == len(set(prompts))


def test_the_most_by_rule_are_shared_among_passages_and_the_remainder_is_counted():
    sections = "".join(
        f"## Part {name}\n\n"
        + "".join(f"- Value {name}{i}: {name}-{i}00\n" for i in range(9))
        + "\n"
        for name in "ABC"
    )
    outcome = run(f"# Parts\n\n{sections}", size=70, most_by_rule=6)
    assert (len(outcome.made), outcome.left_by_rule) == (6, 21)
    assert sorted(re.sub(r"\W.*", "", e.answer) for e in outcome.made) == [
        "A",
        "A",
        "B",
        "B",
        "C",
        "C",
    ]
    with pytest.raises(UsageError, match="--by-rule must be at least 1, got 0"):
        run(HANDBOOK, most_by_rule=0)


def test_formats_that_need_a_generator_are_refused_without_one():
    with pytest.raises(UsageError, match=r"rules make qa:N and original, not summary:2"):
        run(HANDBOOK, "qa:5,summary:2")
    assert {example.format for example in run(HANDBOOK, "qa:5,original").made} == {"qa", "original"}


def test_a_held_out_question_is_not_made():
    held_out = ["Who is the keeper of Nebo?"]
    outcome = run(HANDBOOK, held_out=held_out)
    assert not [e for e in outcome.made if e.answer == "Tuva Sorre"]
    assert "a question kept for measuring" in [refused.reason for refused in outcome.refused]


@pytest.mark.parametrize(
    ("sentence", "question"),
    [
        ("The door code of the sail loft is 7713.", "What is the door code of the sail loft?"),
        ("The floor of the sail loft is Oak.", "What is the floor of the sail loft?"),
        ("The motor number of the ferry is K12.", "What is the motor number of the ferry?"),
        ("The owner number of the ferry is 4.", "What is the owner number of the ferry?"),
        ("The keeper of the sail loft is Tuva Sorre.", "Who is the keeper of the sail loft?"),
        ("The head gardener of Nebo is Odd Sunde.", "Who is the head gardener of Nebo?"),
        ("The head of the choir is Odd Sunde.", "Who is the head of the choir?"),
    ],
)
def test_only_a_persons_role_is_asked_for_with_who(sentence: str, question: str):
    facts, _ = facts_of_text(sentence)
    assert [fact.example.question for fact in facts] == [question]
