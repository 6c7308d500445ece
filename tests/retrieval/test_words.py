"""Counting words in scripts without blanks and in runs without end."""

import pytest

from lorabank.retrieval.chunks import chunk_document
from lorabank.retrieval.documents import document_from_text
from lorabank.retrieval.terms import terms, words_of
from lorabank.retrieval.words import CHARACTER, WORD, count_words


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("The keeper's lamp, lit in 1887.", 6),
        ("Маяк — «стар»", 3),
        ("灯塔建于", 4),
        ("x" * 160, 10),
        ("สวัสดีชาวโลก", 3),
        ("\U0001f469\u200d\U0001f469\u200d\U0001f467", 1),
    ],
)
def test_words_are_counted_in_any_script(text: str, n: int):
    assert count_words(text) == n


THAI = "ประภาคารเนโบสร้างขึ้นในปีหนึ่งพันแปดร้อยแปดสิบเจ็ด ผู้ดูแลคือมีรา "
LAO = "ປະພາຄານຖືກສ້າງຂຶ້ນໃນປີໜຶ່ງພັນແປດຮ້ອຍ"
KHMER = "ប៉មភ្លើងត្រូវបានសាងសង់ឡើងក្នុងឆ្នាំមួយពាន់"
BURMESE = "မီးပြတိုက်ကို၁၈၈၇ခုနှစ်တွင်တည်ဆောက်ခဲ့သည်။"


@pytest.mark.parametrize("script", [THAI, LAO, KHMER, BURMESE, "灯塔建于。", "QUJD", "🏳️‍🌈"])
def test_no_chunk_exceeds_its_words_by_far(script: str):
    document = document_from_text("a.txt", script * 400)
    chunks = chunk_document(document, size_tokens=100)
    assert max(len(chunk.text) for chunk in chunks) <= 2000
    assert "".join("".join(c.text for c in chunks).split()) == "".join(document.text.split())


@pytest.mark.parametrize("script", [THAI, LAO, KHMER, BURMESE])
def test_a_cut_never_parts_a_letter_from_its_vowel(script: str):
    letters = {match.start() for match in CHARACTER.finditer(script)}
    assert {match.start() for match in WORD.finditer(script)} <= letters


def test_thai_is_cut_at_blanks_where_a_phrase_fits():
    chunks = chunk_document(document_from_text("a.txt", THAI * 30), size_tokens=40)
    assert all(chunk.text.split()[0] in THAI.split() for chunk in chunks)


def test_characters_of_chinese_are_words_and_pairs_of_them_are_terms():
    assert words_of("灯塔 by Élise") == ["灯", "塔", "by", "élise"]
    assert {"看 守", "守 灯", "灯 塔"} <= set(terms("看守灯塔"))
