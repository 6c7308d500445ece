"""Where sentences end, by script and by quotation mark."""

import pytest

from lorabank.retrieval.sentences import sentence_spans

CASES = {
    "typographic quotes": ["“It is lit.”", "Mira said so.", "‘Never dark.’", "She left."],
    "guillemets": ["«Да!»", "Он ушёл.", "»Ja.«", "Sie ging."],
    "Spanish": ["¿Quién guarda el faro?", "¡Mira!", "Ella vive allí."],
    "Cyrillic": ["Маяк построен в 1887 году.", "Его хранит А. С. Мирин.", "Он стар."],
    "accents": ["Le bateau part.", "Élise monte.", "Über allem steht er."],
    "Arabic": ["بنيت المنارة.", "من يحرسها؟", "تحرسها ميرا."],
    "Hindi": ["यह दीपक है।", "वह जाता है।"],
    "abbreviations": [
        "Dr. Brown and Prof. Ode met at No. 5.",
        "See Fig. 3, e.g. The map.",
        "Fine.",
    ],
    "numbers of a list": ["1. The lamp is lit.", "2. The gate is shut.", "It is 1887."],
    "German dates": ["Er steht seit dem 3. Mai 1887.", "Es gab 17.", "Maike kam am 1. Okt. 1901."],
    "footnotes": ["It burns.[3]", "The next one too.[12][13]", "(He left.)", "**Bold.**", "End."],
    "lower case": ["He came at 3 p.m. and ate 2.5 pears."],
}


@pytest.mark.parametrize("name", CASES)
def test_sentences_end_where_a_reader_ends_them(name: str):
    text = " ".join(CASES[name])
    assert [text[a:b] for a, b in sentence_spans(text)] == CASES[name]


def test_chinese_and_japanese_need_no_blanks():
    sentences = [
        "灯塔建于一八八七年。",
        "谁看守灯塔？",
        "「来た。」と言った。",
        "「次だ！」",
        "終わり",
    ]
    text = "".join(sentences)
    assert [text[a:b] for a, b in sentence_spans(text)] == sentences


def test_a_blank_line_ends_a_sentence():
    text = "the title\n \n\nwithout a stop. \n\nand more"
    spans = [text[a:b] for a, b in sentence_spans(text)]
    assert spans == ["the title", "without a stop.", "and more"]


@pytest.mark.parametrize("part", ["A. ", ".", '."', "。", " ", "\n", "Dr. ", "\n "])
def test_spans_hold_everything_of_a_long_odd_text(part: str):
    text = part * 20_000 + "x"
    kept = "".join(text[a:b] for a, b in sentence_spans(text))
    assert "".join(kept.split()) == "".join(text.split())
