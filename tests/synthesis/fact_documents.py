"""Documents of simple facts, about which the model in chat_server.py can write questions."""

from lorabank.retrieval.chunks import Chunk
from lorabank.retrieval.documents import Document
from lorabank.synthesis.sources import SourceText, sources_from_chunks

THINGS = ("capital", "river", "anthem", "founder", "harbour", "currency", "lake", "bishop")
_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe")


def word(i: int) -> str:
    """Return an invented name, a different one for each number."""
    return "".join(_SYLLABLES[i // 12**k % 12] for k in range(4)).title()


def country(i: int, n_facts: int = 6) -> str:
    """Return a text of one sentence for each fact about an invented country."""
    facts = [
        f"The {thing} of {word(i)} is {word(100 + 10 * i + k)}." for k, thing in enumerate(THINGS)
    ]
    return " ".join(facts[:n_facts])


def chunk(name: str, title: str, text: str) -> Chunk:
    return Chunk(Document(name, "", title, text, ()), (), 0, len(text), len(text.split()))


def sources(n: int, n_facts: int = 6) -> list[SourceText]:
    """Return one document for each of `n` countries."""
    return sources_from_chunks(
        [chunk(f"{word(i)}.md", f"On {word(i)}", country(i, n_facts)) for i in range(n)]
    )
