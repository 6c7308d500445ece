"""Sentences of a text, in any script and with any quotation marks.

A full stop ends a sentence if a capital letter, a letter of a script without capitals or a number
follows, and no abbreviation stands before it. The stops of Chinese and Japanese need no blank
behind them. A blank line ends a sentence in any case.
"""

import re

_STOPS = ".!?…‼⁇⁈⁉؟۔।॥։።፧။៕།"
_WIDE_STOPS = "。！？｡"
_CLOSERS = r"(?:[\"'’”“‘»›«‹)\]}*_`」』）】》〉]|\[\d{1,4}\])"
_BORDER = re.compile(
    rf"(?<=[{_STOPS}]){_CLOSERS}*+\s++"
    rf"|(?<=[{_WIDE_STOPS}]){_CLOSERS}*+(?![{_WIDE_STOPS}…])\s*+"
    r"|\n[^\S\n]*+\n\s*+"
)
_OPENERS = "\"'“‘„‚«‹”’»›([{¿¡—–*_`「『（【《〈"
_ABBREVIATION = re.compile(
    r"(?<!\w)(?:[^\W\d_]|Mr|Mrs|Ms|Dr|Prof|St|vs|No|Nr|Jr|Sr|Gen|Lt|Col|Capt|Sgt|Rev|Hon|Gov|Sen|Rep"
    r"|Mme|Mlle|Sra|Ca|ca|cf|al|[Ff]igs?|[Ee]qs?|[Ss]ecs?|[Cc]h|[Vv]ols?|pp|approx|est|bzw|Abb|Bd"
    r"|Jan|Feb|Apr|Aug|Sept?|Oct|Okt|Nov|Dec|Dez|им|ул|стр|гл|рис|см|св|проф"
    r"|(?:[^\W\d_]\.){1,4}[^\W\d_])\.$"
)
# "3. Mai": in German a day before its month, the same as "3rd".
_DAY = re.compile(r"(?<!\d)[0-3]?\d\.$")
_MONTH = re.compile(
    r"(?:Jan(?:uar|\.)|Jänner|Feb(?:ruar|\.)|März|Apr(?:il|\.)|Mai|Jun[io]|Jul[io]|Aug(?:ust|\.)"
    r"|Sept(?:ember|\.)|Okt(?:ober|\.)|Nov(?:ember|\.)|Dez(?:ember|\.))(?!\w)"
)
_ITEM_NUMBER = re.compile(r"[(*_>\s-]{0,8}\d{1,3}\.$")
_LOOK_BACK = 16  # characters; longer than any abbreviation


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return (start, end) of each sentence; only white space lies between them."""
    spans, start = [], len(text) - len(text.lstrip())
    last = len(text.rstrip())
    for border in _BORDER.finditer(text, start, last):
        # A quotation mark before the gap belongs to the sentence it closes.
        end = border.start() + len(border.group().rstrip())
        if border.end() < last and _is_end(text, start, border):
            spans.append((start, end))
            start = border.end()
    return [*spans, (start, last)] if text.strip() else []


def _is_end(text: str, start: int, border: re.Match[str]) -> bool:
    if border.group().count("\n") > 1:
        return True
    stop = text[border.start() - 1]
    if stop in _WIDE_STOPS:
        # In Japanese a quotation may be part of the sentence that goes on behind it.
        return not (border.group() and text[border.end()] in "とって、，,")
    if not _can_begin(text, border.end()):
        return False
    if stop != ".":
        return True
    before = text[max(start, border.start() - _LOOK_BACK) : border.start()]
    is_number_of_item = border.start() - start < _LOOK_BACK and _ITEM_NUMBER.fullmatch(before)
    is_date = _DAY.search(before) and _MONTH.match(text, border.end())
    return not (is_number_of_item or is_date or _ABBREVIATION.search(before))


def _can_begin(text: str, at: int) -> bool:
    """Return whether a sentence can begin here: behind openers, a letter not small, or a digit."""
    first = next((c for c in text[at : at + 6] if c not in _OPENERS), "")
    return first.isdigit() or (first.isalpha() and not first.islower())
