"""Calibration of the module gate: fitted on a sample of the bank's own training questions.

The gate is kept beside the generation of the bank it was fitted on; a bank that changes is
calibrated again when it is next asked.
"""

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import replace

from lorabank.bank.answer.candidate_drafts import DraftedQuestion, draft_candidates, group_by_fleet
from lorabank.bank.answer.gate import (
    CalibrationCase,
    Gate,
    candidate_features,
    decode_gate,
    encode_gate,
    fit_gate,
)
from lorabank.bank.answer.modes import N_CANDIDATES
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.routers import TextRouter
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.store.records import Version
from lorabank.tasks.ordinary_texts import QUESTIONS as ORDINARY

_log = logging.getLogger(__name__)
N_MODULES = 16
"""Modules sampled; reading more would delay the first answer."""
N_QUESTIONS = 96
"""Questions in all, the same number of each module."""


def calibrate_module_gate(reader: ModuleReader, texts: ModuleTexts) -> Gate | None:
    """Return the gate of the bank as it is; None for a bank without training questions."""
    # Text scores differ without an embedder, and a gate fitted on one kind misjudges the other.
    name = "gate" if texts.embedder() else "gate-by-words"
    return texts.derive(name, lambda: _fit(reader, texts), encode=encode_gate, decode=decode_gate)


def _fit(reader: ModuleReader, texts: ModuleTexts) -> Gate | None:
    started = time.perf_counter()
    questions = _sample(reader)
    if not questions:
        return None
    _log.info("calibrating the gate on %d questions, once for the bank as it is", len(questions))
    cases = _collect_cases(reader, TextRouter(texts), questions)
    return replace(fit_gate(cases), seconds=time.perf_counter() - started)


def _sample(reader: ModuleReader) -> list[tuple[str, str]]:
    """Return (module, question) pairs, in an order that depends only on the bank."""
    versions = [v for v in reader.store.current_versions() if (v.record.get("recall") or 0) > 0]
    rng = random.Random(f"calibration/{len(versions)}")
    chosen: list[Version] = rng.sample(versions, min(N_MODULES, len(versions)))
    per_module = max(1, N_QUESTIONS // max(1, len(chosen)))
    sampled = []
    for version in chosen:
        missing = set(version.record.get("missing", []))
        keys = [key.text for key in reader.store.keys(version) if key.kind == "question"]
        known = [question for question in keys if question not in missing]
        sampled += [(version.module, q) for q in rng.sample(known, min(per_module, len(known)))]
    rng.shuffle(sampled)
    return sampled


def _collect_cases(
    reader: ModuleReader, router: TextRouter, questions: Sequence[tuple[str, str]]
) -> list[CalibrationCase]:
    """Return what the gate is fitted on.

    Args:
        questions: (module, one of its training questions); ordinary questions are added.
    """
    labelled = [*questions, *(("", question) for question in ORDINARY[::3])]
    texts = [question for _, question in labelled]
    routed = router.route(texts, N_CANDIDATES + 1)
    cases: dict[int, CalibrationCase] = {}
    for group in group_by_fleet(reader, routed):
        indices = group.question_indices
        drafted = draft_candidates(
            reader, [texts[i] for i in indices], [routed[i] for i in indices], group.versions
        )
        for i, question in zip(indices, drafted, strict=True):
            cases[i] = _case(labelled[i][0], question)
    return [cases[i] for i in range(len(labelled))]


def _case(module: str, question: DraftedQuestion) -> CalibrationCase:
    """Return the features of the question's own module and, as if that were missing, of others."""
    scored = question.candidates
    own = next((s.features for s in scored if s.candidate.module == module), None)
    others = [s for s in scored if s.candidate.module != module][:N_CANDIDATES]
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
    return CalibrationCase(own, tuple(rows))
