"""Sentences about what a study of long documents found, made from its numbers.

Recall comes before gains of likelihood, and what an adapter gains is held against another
document's adapter in its place before it is called knowledge.
"""

from collections.abc import Sequence

from lorabank.report.documents.answer_modes import ScoredMode, control_of, text_alone
from lorabank.report.estimates import Estimate, comparison, in_words
from lorabank.report.wording import capitalised, listing, percent, seed_sentence
from lorabank.study.documents.axes import NONE, ORACLE


def sentences(modes: Sequence[ScoredMode]) -> list[str]:
    """Return three to five sentences about modes that answered questions."""
    main = [mode for mode in modes if mode.is_main_rate]
    by_documents = [
        [mode for mode in main if mode.documents == documents]
        for documents in dict.fromkeys(mode.documents for mode in main)
    ]
    findings = [_recall(by_documents)]
    for inside in by_documents:
        findings += [_closed_book(inside), *_beside_text(inside, main), _merging(inside)]
    shown = [finding for finding in findings if finding]
    return [*shown[:5], seed_sentence(mode.setting.n_seeds for mode in modes)]


def _recall(by_documents: Sequence[Sequence[ScoredMode]]) -> str:
    """Return which share of the answers is recalled word for word, with and without an adapter."""
    parts = []
    for modes in by_documents:
        best = _best_closed(modes)
        sources = [*([best] if best else []), *_readers(modes)]
        recalls = [
            f"{percent(recall)} with {_article(mode)}"
            for mode in sources
            if (recall := mode.setting.average(lambda cell: cell.recall)) is not None
        ]
        if recalls:
            parts.append(f"on {modes[0].documents} {listing(recalls)}")
    return f"Answers recalled word for word: {'; '.join(parts)}." if parts else ""


def _closed_book(modes: Sequence[ScoredMode]) -> str:
    """Return the gain of the best adapter without text, beside reading and its control."""
    best, readers = _best_closed(modes), _readers(modes)
    if best is None:
        return ""
    gain = _gain(best)
    text = (
        f"{capitalised(best.documents)}: without text the right answers become likelier by "
        f"{in_words(gain)} nats per token with {_article(best)}"
    )
    control = control_of(best, modes)
    over = best.gain_over(control) if control else None
    if over is not None:
        text += (
            f", perhaps no more than with another document's (difference {in_words(over)})"
            if over.holds_zero
            else f", {in_words(over)} more than with another document's"
        )
    if readers:
        reading = [f"{in_words(_gain(mode))} with {mode.text}" for mode in readers]
        strongest = max((_gain(mode) for mode in readers), key=lambda value: value.mean)
        text += f"; by reading {listing(reading)}; {comparison(gain, strongest)}"
    return f"{text}."


def _best_closed(modes: Sequence[ScoredMode]) -> ScoredMode | None:
    """Return the adapter that gains most without text, found without an oracle where possible."""
    adapters = [m for m in modes if m.has_adapter and m.axes.text == NONE and not m.is_control]
    routed = [m for m in adapters if m.axes.router != ORACLE] or adapters
    return max(routed, key=lambda mode: _gain(mode).mean, default=None)


def _readers(modes: Sequence[ScoredMode]) -> list[ScoredMode]:
    return [mode for mode in modes if not mode.has_adapter and mode.axes.text != NONE]


def _article(mode: ScoredMode) -> str:
    return f"the {mode.adapter}" if mode.has_adapter else mode.text


def _beside_text(modes: Sequence[ScoredMode], every: Sequence[ScoredMode]) -> list[str]:
    """Return what the best adapter adds to a text that is read anyway, and its control."""
    findings = []
    for text in dict.fromkeys(m.text for m in modes if m.has_adapter and m.axes.text != NONE):
        inside = [m for m in modes if m.has_adapter and m.text == text and not m.is_control]
        added = [(mode, over) for mode in inside if (over := _over_text(mode, every)) is not None]
        if not added:
            continue
        mode, over = max(added, key=lambda pair: pair[1].mean)
        control = control_of(mode, every)
        own = mode.gain_over(control) if control else None
        remainder = ""
        if own is not None:
            remainder = (
                "; perhaps another document's adapter in the place adds as much (difference "
                f"{in_words(own)})"
                if own.holds_zero
                else f"; {in_words(own)} of that is over another document's adapter in the place"
            )
        claim = "may add nothing" if over.holds_zero else f"adds {in_words(over)} nats per token"
        findings.append(
            f"Beside {text}, the {mode.adapter} {claim} to what reading alone gains{remainder}."
        )
    return findings


def _merging(modes: Sequence[ScoredMode]) -> str:
    """Return whether more merged chunks gain more over the same merge of another document."""
    chunked = [
        mode
        for mode in modes
        if mode.axes.adapter in ("chunk", "merged")
        and mode.axes.text == NONE
        and not mode.is_control
        and control_of(mode, modes) is not None
    ]
    best: dict[int, ScoredMode] = {}
    for mode in chunked:
        n = 1 if mode.axes.adapter == "chunk" else mode.axes.k or 1
        if n not in best or _gain(mode).mean > _gain(best[n]).mean:
            best[n] = mode
    if len(best) < 3:
        return ""
    overs: dict[int, Estimate] = {}
    for n in sorted(best):
        control = control_of(best[n], modes)
        over = best[n].gain_over(control) if control else None
        if over is not None:
            overs[n] = over
    if len(overs) < 2:
        return ""
    numbers, first, last = listing([str(n) for n in overs]), min(overs), max(overs)
    gains = listing([f"{_gain(best[n]).mean:.2f}" for n in overs])
    return (
        f"Without text, {numbers} chunk adapters gain {gains} nats per token, but over as many of "
        f"another document {listing([in_words(over) for over in overs.values()])}; of {first} and "
        f"{last} {comparison(overs[first], overs[last])}."
    )


def _gain(mode: ScoredMode) -> Estimate:
    return mode.gain() or Estimate(0.0, None)


def _over_text(mode: ScoredMode, modes: Sequence[ScoredMode]) -> Estimate | None:
    alone = text_alone(mode, modes)
    return mode.gain_over(alone) if alone else None
