"""Calibration of the module gate: fitted on a sample of the bank's own questions.

Half of them are taught, half are wordings that were held out of training: people ask in words of
their own. A question whose module drafts another answer than the stored one counts as one that no
module knows, as its draft must not be given.

The gate is kept beside the state of the bank it was fitted on; a bank that changes is calibrated
again when it is next asked, or by a server in the background. Others may use the base meanwhile.
"""

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lorabank.bank.answer.candidate_drafts import DraftedQuestion, draft_candidates, group_by_fleet
from lorabank.bank.answer.gate import (
    CalibrationCase,
    Gate,
    candidate_features,
    decode_gate,
    encode_gate,
    fit_gate,
)
from lorabank.bank.answer.lookup import agree
from lorabank.bank.answer.modes import N_CANDIDATES
from lorabank.bank.drafts import EXAMPLES
from lorabank.bank.module_reader import ExamplesError, ModuleReader
from lorabank.bank.route.routers import TextRouter
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.store.records import Version
from lorabank.tasks.ordinary_texts import QUESTIONS as ORDINARY

_log = logging.getLogger(__name__)
N_MODULES = 16
"""Modules sampled; reading more would delay the first answer."""
N_QUESTIONS = 96
"""Questions in all, the same number of each module."""


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question and who knows its answer."""

    question: str
    module: str = ""
    """Module that was taught its fact; empty for none."""
    answer: str | None = None
    """Stored answer; None where the module has no examples stored."""


def calibrate_module_gate(reader: ModuleReader, texts: ModuleTexts) -> Gate | None:
    """Return the gate of the bank as it is; None for a bank without training questions."""
    # Text scores differ without an embedder, and a gate fitted on one kind misjudges the other.
    name = "gate-2" if texts.embedder() else "gate-2-by-words"
    return texts.derive(name, lambda: _fit(reader, texts), encode=encode_gate, decode=decode_gate)


def _fit(reader: ModuleReader, texts: ModuleTexts) -> Gate | None:
    started = time.perf_counter()
    questions = _sample(reader)
    if not questions:
        return None
    _log.info("calibrating the gate on %d questions, once for the bank as it is", len(questions))
    cases = _collect_cases(reader, TextRouter(texts), questions)
    return replace(fit_gate(cases), seconds=time.perf_counter() - started)


def _sample(reader: ModuleReader) -> list[LabelledQuestion]:
    """Return questions of modules, in an order that depends only on the bank."""
    versions = [v for v in reader.store.current_versions() if (v.record.get("recall") or 0) > 0]
    rng = random.Random(f"calibration/{len(versions)}")
    chosen: list[Version] = rng.sample(versions, min(N_MODULES, len(versions)))
    per_module = max(1, N_QUESTIONS // max(1, len(chosen)))
    sampled = []
    for version in chosen:
        taught, held_out = _questions_of(reader, version)
        n = min(len(held_out), per_module // 2)
        sampled += rng.sample(held_out, n)
        sampled += rng.sample(taught, min(per_module - n, len(taught)))
    rng.shuffle(sampled)
    return sampled


def _questions_of(
    reader: ModuleReader, version: Version
) -> tuple[list[LabelledQuestion], list[LabelledQuestion]]:
    """Return the questions a module was taught and recalls, and its held-out wordings."""
    name, missing = version.module, set(version.record.get("missing", []))
    keys = [key.text for key in reader.store.keys(version) if key.kind == "question"]
    try:
        examples = reader.read_draft(version).examples if EXAMPLES in version.files else []
    except ExamplesError as error:  # its taught questions are among the keys all the same
        _log.warning("calibrating without held-out wordings: %s", error)
        examples = []
    answers = {text: example.answer for example in examples for text in example.questions}
    taught = [LabelledQuestion(q, name, answers.get(q)) for q in keys if q not in missing]
    held_out = [
        LabelledQuestion(text, name, example.answer)
        for example in examples
        for text in example.held_out
    ]
    return taught, held_out


def _collect_cases(
    reader: ModuleReader, router: TextRouter, questions: Sequence[LabelledQuestion]
) -> list[CalibrationCase]:
    """Return what the gate is fitted on; ordinary questions are added."""
    labelled = [*questions, *(LabelledQuestion(question) for question in ORDINARY[::3])]
    texts = [each.question for each in labelled]
    routed = router.route(texts, N_CANDIDATES + 1)
    cases: dict[int, CalibrationCase] = {}
    for group in group_by_fleet(reader, routed):
        indices = group.question_indices
        drafted = draft_candidates(
            reader, [texts[i] for i in indices], [routed[i] for i in indices], group.versions
        )
        for i, question in zip(indices, drafted, strict=True):
            cases[i] = _case(labelled[i], question)
    return [cases[i] for i in range(len(labelled))]


def _case(label: LabelledQuestion, question: DraftedQuestion) -> CalibrationCase:
    """Return the features of the question's own module and, as if that were missing, of others."""
    scored = question.candidates
    own = next((s for s in scored if s.candidate.module == label.module), None)
    others = [s for s in scored if s.candidate.module != label.module][:N_CANDIDATES]
    best_score = max((s.candidate.score for s in others), default=0.0)
    rows = [
        candidate_features(
            s.draft,
            question.bare,
            coverage=s.candidate.coverage,
            behind=best_score - s.candidate.score,
        )
        for s in others
    ]
    if own and label.answer is not None and not agree(own.draft.text, label.answer):
        return CalibrationCase(None, (own.features, *rows))
    return CalibrationCase(own.features if own else None, tuple(rows))
