"""Mode `auto`: module, text, both, or "I don't know", whichever is worth most for each question.

A mode is worth the probability that it has the answer, less what it costs. For a stored example
that is the probability that it answers the question (lookup.py); for a module it is
the gate's probability times the module's recall, if the gate opens; for text, the probability that
it answers the question (evidence.py); for both, that either does. Costs are prices of prompt
tokens, seconds and adapter loads. Where nothing is worth the least, the bank abstains, or leaves
the question to the bare model if it is not on the bank's topic. (METHODS B3; question 13 of
arXiv:2603.01097 tries the combinations, and does not choose among them.)
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lorabank.bank.answer.answers import Answer, Choice, Option
from lorabank.bank.answer.evidence import Evidence, weigh_evidence
from lorabank.bank.answer.excerpts import Excerpt
from lorabank.bank.answer.gate import Gate
from lorabank.bank.answer.modes import (
    ADAPTER,
    ADAPTER_RAG,
    AUTO,
    EXACT,
    ICL,
    NONE,
    RAG,
    AskSettings,
)
from lorabank.bank.answer.state import BankState
from lorabank.bank.answer.with_module import ON_TOPIC, answer_with_modules
from lorabank.bank.answer.with_text import answer_with_text, build_prompt
from lorabank.bank.route.routers import Candidate
from lorabank.errors import UsageError

COVERED = 0.75
"""Share of a question in one sentence from which text is trusted where no gate could be fitted."""


def answer_by_worth(
    state: BankState, questions: Sequence[str], settings: AskSettings
) -> list[Answer]:
    """Answer each question in the mode that is worth most; `choice` lists what was weighed.

    `prompt_tokens` counts everything that was read for the answer: the prompt of the modules, the
    sentences that were weighed and the prompt that was answered.

    Raises:
        UsageError: an empty question.
        DataError: a question longer than the model's context.
    """
    started = time.perf_counter()
    # 1. Ask the stored examples and the modules, as in mode `adapter`.
    by_module = answer_with_modules(state, questions, replace(settings, gated=True))
    # 2. Search text for each question that no module is sure enough of, and weigh it.
    worth = _Worth(state, settings, state.text_gate(), state.ms_per_token)
    module_options = [worth.weigh_module(answer) for answer in by_module]
    searched = _search_text(state, questions, module_options, settings.costs.enough_worth)
    # 3. Decide what each question is answered by.
    answers: list[Answer] = []
    left_to: dict[str, list[int]] = {}
    for i, answer in enumerate(by_module):
        excerpts, evidence = searched.get(i, ([], None))
        weighed = worth.weigh_all(answer, module_options[i], excerpts, evidence)
        decided, mode = _decide(answer, weighed, excerpts, settings.costs.least_worth)
        n_tokens = answer.prompt_tokens + (evidence.n_tokens if evidence else 0)
        now = time.perf_counter() - started
        answers.append(replace(decided, prompt_tokens=n_tokens, first_token_s=now, seconds=now))
        if mode is not None:
            left_to.setdefault(mode, []).append(i)
    # 4. Answer those that text or the bare model is better at.
    for mode, indices in left_to.items():
        before_s = time.perf_counter() - started
        router = _GateRouter({questions[i]: by_module[i] for i in indices})
        read = answer_with_text(
            state, [questions[i] for i in indices], replace(settings, mode=mode, router=router)
        )
        for i, answer in zip(indices, read, strict=True):
            answers[i] = _join(answers[i], answer, before_s)
    return answers


def _search_text(
    state: BankState,
    questions: Sequence[str],
    module_options: Sequence[Option | None],
    enough_worth: float,
) -> dict[int, tuple[list[Excerpt], Evidence | None]]:
    """Return excerpts and evidence by question, for those no module is sure enough of."""
    indices = [
        i
        for i, option in enumerate(module_options)
        if option is None or option.value < enough_worth
    ]
    texts = [questions[i] for i in indices]
    excerpts = state.excerpts.search(texts)
    evidence = weigh_evidence(state.reader, state.excerpts, texts, excerpts)
    return dict(zip(indices, zip(excerpts, evidence, strict=True), strict=True))


@dataclass(frozen=True, slots=True)
class _Worth:
    """Weighs modes of answering by what is known of a question."""

    state: BankState
    settings: AskSettings
    text_gate: Gate | None
    ms_per_token: float

    def weigh_module(self, answer: Answer) -> Option | None:
        """Return the mode of a stored example or of a module that has convinced the gate."""
        if answer.kind == "example" and answer.p is not None:
            return self._price(EXACT, answer.p, answer.prompt_tokens, 0)
        if answer.kind != "module" or answer.module is None or answer.p is None:
            return None
        version = self.state.store.current(answer.module)
        p = answer.p * float(version.record.get("recall") or 0.0)
        n_loads = int(not self.state.reader.is_loaded(version))
        return self._price(ADAPTER, p, answer.prompt_tokens, n_loads)

    def weigh_all(
        self,
        answer: Answer,
        module: Option | None,
        excerpts: Sequence[Excerpt],
        evidence: Evidence | None,
    ) -> list[Option]:
        """Return every possible mode, the most valuable first and the shorter prompt of equals.

        Args:
            module: the mode `adapter` or `exact` as `weigh_module` returns it.
            evidence: None where no text was found or searched.
        """
        options = [module] if module else []
        if evidence is None:
            return options
        if self.text_gate:
            p = self.text_gate.probability(evidence.features)
        else:
            p = evidence.coverage * (evidence.coverage >= COVERED)
        for mode in (RAG, ICL):
            try:
                prompt, _ = build_prompt(
                    self.state.base, answer.question, excerpts, mode, self.settings.max_new_tokens
                )
            except UsageError:
                continue  # a document that does not fit is not an option
            n_tokens = len(prompt.ids)
            options.append(self._price(mode, p, n_tokens, 0))
            if mode == RAG and module and module.mode == ADAPTER:
                either = 1 - (1 - p) * (1 - module.p)
                options.append(self._price(ADAPTER_RAG, either, n_tokens, module.loads))
        return sorted(options, key=lambda option: (-option.value, option.tokens))

    def _price(self, mode: str, p: float, n_tokens: int, n_loads: int) -> Option:
        ms = n_tokens * self.ms_per_token
        return self.settings.costs.option(mode, p, tokens=n_tokens, ms=ms, loads=n_loads)


def _decide(
    answer: Answer, options: Sequence[Option], excerpts: Sequence[Excerpt], least_worth: float
) -> tuple[Answer, str | None]:
    """Return the answer so far, and the mode that still has to answer, if any.

    Args:
        answer: the answer of mode `adapter`.
        options: the modes, the most valuable first.
    """
    best = options[0] if options else None
    if best and best.value >= least_worth:
        reason = f"{best.mode} is worth {best.value:.2f}, more than any other way"
        decided = replace(answer, mode=AUTO, choice=Choice(tuple(options), reason))
        return decided, None if best.mode in (ADAPTER, EXACT) else best.mode
    coverages = [scored.candidate.content_coverage for scored in answer.candidates]
    coverages += [excerpt.content_coverage for excerpt in excerpts]
    coverages += [1.0] if answer.kind == "example" else []
    is_on_topic = max(coverages, default=0.0) >= ON_TOPIC
    why = "the bank does not know" if is_on_topic else "and the bank holds nothing like it"
    choice = Choice(tuple(options), f"nothing is worth {least_worth:g}: {why}")
    if not is_on_topic:
        decided = replace(answer, mode=AUTO, choice=choice)
        return decided, None if answer.kind == "bare" else NONE
    return answer.withheld(mode=AUTO, choice=choice), None


def _join(decided: Answer, read: Answer, before_s: float) -> Answer:
    """Return the answer that was read in the end, with the costs of deciding added."""
    return replace(
        read,
        mode=AUTO,
        p=decided.p,
        candidates=decided.candidates,
        choice=decided.choice,
        lookup=decided.lookup,
        prompt_tokens=decided.prompt_tokens + read.prompt_tokens,
        first_token_s=before_s + read.first_token_s,
        seconds=before_s + read.seconds,
    )


@dataclass(frozen=True, slots=True)
class _GateRouter:
    """A router that names the module which has already convinced the gate."""

    answers: dict[str, Answer]
    """Answer of mode `adapter` by question."""

    def route(self, questions: Sequence[str], k: int) -> list[list[Candidate]]:
        routed = []
        for question in questions:
            answer = self.answers[question]
            candidates = [scored.candidate for scored in answer.candidates]
            routed.append([c for c in candidates if c.module == answer.module][:k])
        return routed
