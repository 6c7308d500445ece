"""A model as judge of answers: it gives 0 to 10 by a rubric, or no score at all.

The criteria follow arXiv:2603.01097: the same facts without contradiction, nothing left out, and
nothing beside the point. There a failed call or an unreadable reply counted as 0. Here the judge is
asked again with another seed; an answer it still does not score is left out of means and counted.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from lorabank.errors import UsageError
from lorabank.synthesis.budget import Budget, BudgetMeter
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.cached_requests import RequestCounts, answer_requests
from lorabank.synthesis.generators import Finish, Generator, Reply, Request
from lorabank.synthesis.model_json import find_json
from lorabank.synthesis.model_text import drop_thoughts
from lorabank.synthesis.replies import CUT_OFF, WRONG_FORM
from lorabank.synthesis.synthesis_run import OnReply
from lorabank.tasks.examples import Message

LOWEST, HIGHEST = 0, 10
TRIES = 3
REPLY_TOKENS = 256
_MOST_REPLY_TOKENS = 131_072
_RETRY_TEMPERATURE = 0.7  # at 0 a model would say the same again
_SHOWN = 3  # replies, in an error
_RUBRIC = """\
You grade an answer to a question against a reference answer that is right.

Look at three things: does the answer say the same as the reference and nothing that contradicts \
it; does it say all of it; does it keep to the question, without adding what nobody asked for. \
Other words for the same thing cost nothing, and neither does a short answer that says it all.

10: says what the reference says, all of it, and nothing else of weight.
7 to 9: right, with a detail missing or some needless words.
4 to 6: the main idea is there, with a serious mistake, a large gap, or much that is off the point.
1 to 3: about the right subject, but wrong.
0: no answer, nonsense, or about something else."""
_FORMS = {
    True: 'Reply with JSON alone, of this form: {"rationale": "one sentence", "score": 7}',
    False: "Reply with one line and nothing else, of this form:\nScore: 7",
}
_LINE = re.compile(
    r"^[^\w\n]*score[^\w\n:=]{0,9}[:=][^\w\n-]{0,9}(-?\d+(?:\.\d+)?)"
    r"(?:\s?(?:/|out of)\s?10)?[^\w\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_SCORE = re.compile(r"([-+]?\d{1,9}(?:\.\d{1,9})?)(?:\s?(?:/|out of)\s?10)?")


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer to be judged."""

    question: str
    golds: tuple[str, ...]
    text: str
    document: str = ""
    """Document it is about; answers about one document form a cluster."""
    gain: float | None = None
    """Nats per token by which the gold answer is likelier than under the bare model."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judge's score of an answer, or the reason why there is none."""

    score: int | None
    """Score from 0 to 10; None if the judge gave none."""
    rationale: str = ""
    missing_reason: str = ""
    """Why there is no score."""


@dataclass(slots=True)
class JudgeOutcome:
    """Judgements of all answers, with what they cost."""

    judge: str
    judgements: list[Judgement]
    calls: int = 0
    cached_replies: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    """Answers without a score, by reason."""


def judge_answers(
    answers: Sequence[JudgedAnswer],
    generator: Generator,
    cache: ReplyCache | None,
    *,
    budget: Budget | None = None,
    reply_tokens: int = REPLY_TOKENS,
    on_reply: OnReply | None = None,
) -> JudgeOutcome:
    """Return a judgement of each answer, in order; equal answers are sent once.

    Args:
        reply_tokens: limit of a reply; a judge that thinks first needs more than the default.

    Raises:
        UsageError: there are no answers, no reply could be read, or the limit is out of range.
        UnavailableError: the judge cannot be reached any more; its replies so far are cached.
    """
    if not answers:
        raise UsageError("there is nothing to judge; give at least one answer")
    if not 1 <= reply_tokens <= _MOST_REPLY_TOKENS:
        raise UsageError(f"--judge-tokens must be 1..{_MOST_REPLY_TOKENS:,}, got {reply_tokens}")
    meter, counts = BudgetMeter(budget or Budget()), RequestCounts()
    ask = partial(request_for, as_json=generator.writes_json, reply_tokens=reply_tokens)
    judgements_by_index: dict[int, Judgement] = {}
    unread: list[str] = []
    n_replies = 0
    for attempt in range(TRIES):
        wanted: dict[Request, list[int]] = {}
        for i, answer in enumerate(answers):
            if i not in judgements_by_index or judgements_by_index[i].score is None:
                request = ask(answer, seed=attempt, is_retry=attempt > 0)
                wanted.setdefault(request, []).append(i)
        if not wanted or counts.over_budget:
            break
        for reply in answer_requests(wanted, generator, cache, meter, counts):
            judgement = read_judgement(reply)
            judgements_by_index.update(dict.fromkeys(wanted[reply.request], judgement))
            if judgement.score is None:
                unread.append(f"{judgement.missing_reason}: {reply.text or reply.reason}")
            n_replies += 1
            if on_reply:
                on_reply(n_replies, n_replies - 1 + len(wanted))
    judgements = [
        judgements_by_index.get(i, Judgement(None, missing_reason="beyond the budget"))
        for i in range(len(answers))
    ]
    if all(judgement.score is None for judgement in judgements):
        raise _unreadable(generator, unread, n_replies)
    return JudgeOutcome(
        generator.name,
        judgements,
        meter.calls,
        counts.cached,
        meter.prompt_tokens,
        meter.completion_tokens,
        Counter(judgement.missing_reason for judgement in judgements if judgement.score is None),
    )


def _unreadable(generator: Generator, unread: Sequence[str], n_replies: int) -> UsageError:
    shown = " | ".join(" ".join(text.split())[:100] for text in unread[:_SHOWN])
    is_cut = any(text.startswith(CUT_OFF) for text in unread)
    return UsageError(
        f"{generator.name} gave no score that could be read in {n_replies} replies: {shown}; "
        f"{'raise --judge-tokens, ' if is_cut else ''}take another --judge, or a larger budget"
    )


def request_for(
    answer: JudgedAnswer,
    *,
    as_json: bool,
    seed: int,
    is_retry: bool = False,
    reply_tokens: int = REPLY_TOKENS,
) -> Request:
    """Return the request to judge an answer: greedy at first, sampled in a retry."""
    golds = f"Reference answer: {answer.golds[0]}"
    if len(answer.golds) > 1:
        listed = "".join(f"\n- {gold}" for gold in answer.golds)
        golds = f"Reference answers, each right and whole by itself:{listed}"
    shown = f"Question: {answer.question}\n{golds}\nAnswer: {answer.text}"
    text = f"{_RUBRIC}\n\n{shown}\n\n{_FORMS[as_json]}"
    return Request(
        (Message("user", text),),
        max_tokens=reply_tokens,
        temperature=_RETRY_TEMPERATURE if is_retry else 0.0,
        seed=seed,
        as_json=as_json,
        kind="judge",
        passage=answer.question,
    )


def read_judgement(reply: Reply) -> Judgement:
    """Return the score in a reply, a whole number of 0..10, or why there is none.

    It stands in JSON or in a line of its own, behind any thought. Two that differ are none.
    """
    if reply.finish in (Finish.REFUSED, Finish.FAILED):
        return Judgement(None, missing_reason=reply.finish.value)
    text = drop_thoughts(reply.text)
    scores = [score for value in find_json(text).values for score in _scores_in(value)]
    scores = scores or [(line, "") for line in _LINE.findall(text)]
    numbers = {_number(score) for score, _ in scores}
    if len(numbers) != 1 or None in numbers:
        is_cut = reply.finish is Finish.LENGTH
        why = f"{CUT_OFF} at {reply.request.max_tokens} tokens" if is_cut else WRONG_FORM
        return Judgement(None, missing_reason="more than one score" if len(numbers) > 1 else why)
    number = numbers.pop()
    if number is None or not LOWEST <= number <= HIGHEST or number != int(number):
        return Judgement(
            None, missing_reason=f"a score that is no whole number of {LOWEST} to {HIGHEST}"
        )
    return Judgement(int(number), scores[0][1])


def _scores_in(value: object) -> Iterator[tuple[object, str]]:
    """Yield each score with its rationale; a score may be wrapped in other objects."""
    if isinstance(value, dict):
        if "score" in value:
            rationale = value.get("rationale")
            yield value["score"], rationale if isinstance(rationale, str) else ""
            return
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _scores_in(part)


def _number(score: object) -> float | None:
    """Return a number, in quotes or not, alone or "of 10"; None for anything else."""
    number = _SCORE.fullmatch(score.strip()) if isinstance(score, str) else None
    return float(number[1]) if number else None
