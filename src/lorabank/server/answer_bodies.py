"""A bank's answer as text of the API, and what else is known of it in the field `lorabank`."""

from dataclasses import asdict
from typing import Any

from lorabank.bank.answer.answers import Answer

NOT_IN_MEMORY = "Not in memory."


def answer_text(answer: Answer) -> str:
    """Return what a client shows: the answer, or that there is none and why."""
    if answer.kind != "abstained":
        return answer.text
    reason = answer.note.strip()
    return f"{NOT_IN_MEMORY} {reason[0].upper()}{reason[1:]}." if reason else NOT_IN_MEMORY


def answer_details(answer: Answer, *, explain: bool = False) -> dict[str, Any]:
    """Return who answered, how sure, from where, and why nobody did."""
    details: dict[str, Any] = {
        "kind": answer.kind,
        "question": answer.question,
        "module": answer.module,
        "version": answer.version,
        "source": answer.source,
        "p": answer.p,
        "mode": answer.mode,
        "used": answer.used,
        "citations": [asdict(citation) for citation in answer.citations],
        "note": answer.note,
        "seconds": round(answer.seconds, 4),
    }
    if answer.typed:
        details["typed"] = answer.typed
    if answer.example:
        details["example"] = {
            "question": answer.example.question,
            "answer": answer.example.answer,
            "p": answer.example.p,
        }
    if answer.kind == "abstained":
        details["reason"] = answer.note or "no module and no text of the bank knows"
    if explain:
        whole = answer.as_json(explain=True)
        details |= {name: whole[name] for name in ("nearest", "candidates", "choice")}
    return details


def annotations(answer: Answer, text: str) -> list[dict[str, Any]]:
    """Return the citations as the API annotates them: the text read, for the whole answer."""
    return [
        {
            "type": "file_citation",
            "index": max(0, len(text) - 1),
            "file_id": citation.document,
            "filename": citation.document,
        }
        for citation in answer.citations
    ]
