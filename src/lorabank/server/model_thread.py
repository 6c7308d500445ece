"""The thread that owns the model: questions first, then learning, all in one process.

    loop   1. calls that need the model for a moment, 2. all questions that wait, in shared batches,
           3. one token of every row of modules and base; then again.
    A long task (teaching, forgetting) begins when nothing of that is left, or has waited for
    `_LONGEST_PASS_S`. Between two steps of its training, and between two passes of its measuring,
    all that waits is done, for at most as long again, and then one more is taken: so a question
    waits for one step at most, and training goes on under any load.

A bank has one base model with one set of adapter slots, so nobody else touches it. Its store may be
read, and facts may be remembered, from any thread.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.conversation import Question
from lorabank.bank.bank import Bank
from lorabank.engine.training.progress import FleetProgress
from lorabank.engine.training.train import TrainingPaused
from lorabank.errors import LorabankError
from lorabank.server.json_log import tell_error
from lorabank.server.prometheus import Metrics
from lorabank.server.refusals import RefusalError, busy
from lorabank.server.row_writer import RowOrder, RowWriter
from lorabank.server.server_settings import ServerSettings

_T = TypeVar("_T")
_LONGEST_PASS_S = 2.0
_MOST_QUESTIONS = 16  # answered in one batch


@dataclass(frozen=True, slots=True)
class AskOrder:
    """A question and how it is to be answered."""

    question: Question
    mode: str | None = None
    max_new_tokens: int = 64
    as_of: str | None = None
    explain: bool = False

    @property
    def batch(self) -> tuple[str | None, int, str | None, bool]:
        """Return what questions of one batch have in common."""
        return self.mode, self.max_new_tokens, self.as_of, self.explain


@dataclass(slots=True)
class LongTask:
    """Work that takes long and makes room for questions."""

    run: "Callable[[LongTask], Any]"
    on_progress: Callable[[float], None]
    result: "Future[Any]"
    is_cancelled: bool = False
    makes_room: bool = True
    """Whether questions may be answered between passes of its measuring; not in a transaction."""
    is_repeatable: bool = False
    """Whether it is left between passes when the server stops, as it is done anew at the start."""
    asked_at: float = field(default_factory=time.monotonic)


class TaskCancelledError(LorabankError):
    """Somebody cancelled a task while it ran."""


class ModelThread:
    """The owner of a bank and its model."""

    def __init__(self, open_bank: Callable[[], Bank], settings: ServerSettings, metrics: Metrics):
        self._open_bank, self._settings, self._metrics = open_bank, settings, metrics
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._changed = threading.Condition()
        self._calls: deque[tuple[Callable[[Bank], Any], Future[Any]]] = deque()
        self._questions: deque[tuple[AskOrder, Future[Answer]]] = deque()
        self._new_rows: deque[RowOrder] = deque()
        self._cancelled_rows: deque[RowOrder] = deque()
        self._tasks: deque[LongTask] = deque()
        self._task: LongTask | None = None
        self._is_in_task = False
        """Whether the code of a task is running, and not what was let in between."""
        self._is_stopping = False
        self._rows: RowWriter | None = None
        self._bank: Bank | None = None
        self.loaded: Future[Bank] = Future()
        """The bank, as soon as its model is loaded, or why it cannot be."""

    def start(self) -> None:
        self._thread.start()

    @property
    def bank(self) -> Bank:
        """Return the open bank.

        Raises:
            RefusalError: it is not loaded yet.
        """
        if self._bank is None:
            raise RefusalError(
                "the model is still being loaded", status=503, code="loading", retry_after_s=2
            )
        return self._bank

    @property
    def is_ready(self) -> bool:
        return self._bank is not None

    @property
    def waiting(self) -> int:
        """Return how many requests wait for the model.

        Rows that are being written are left out, and so is what a client has gone away from.
        """
        rows = self._rows
        n_rows = len(self._new_rows) + (len(rows) - rows.running if rows else 0)
        futures = [future for _, future in (*self._calls, *self._questions)]
        n_asked = sum(not future.cancelled() for future in futures)
        return n_asked + max(0, n_rows - len(self._cancelled_rows))

    @property
    def running_rows(self) -> int:
        return self._rows.running if self._rows else 0

    @property
    def is_learning(self) -> bool:
        return self._task is not None

    @property
    def n_tasks(self) -> int:
        return len(self._tasks) + self.is_learning

    def ask(self, order: AskOrder) -> "Future[Answer]":
        """Have a question answered.

        Raises:
            RefusalError: too many requests wait.
        """
        future: Future[Answer] = Future()
        self._enqueue(lambda: self._questions.append((order, future)))
        return future

    def call(self, work: Callable[[Bank], _T]) -> "Future[_T]":
        """Have something done that needs the model for a moment."""
        future: Future[_T] = Future()
        self._enqueue(lambda: self._calls.append((work, future)))
        return future

    def write_row(self, order: RowOrder) -> None:
        """Have a row written; its listener is told of each token."""
        self._enqueue(lambda: self._new_rows.append(order))

    def cancel_row(self, order: RowOrder) -> None:
        """Let a row go whose listener is not interested any more."""
        with self._changed:
            self._cancelled_rows.append(order)
            self._changed.notify()

    def run_task(self, task: LongTask) -> None:
        """Have a long task done when nobody asks."""
        with self._changed:
            self._tasks.append(task)
            self._changed.notify()

    def stop(self) -> None:
        """Let questions be answered, pause training, close the bank and wait for the end."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _enqueue(self, append: Callable[[], None]) -> None:
        if self.waiting >= self._settings.max_waiting:
            raise busy(
                f"{self.waiting} requests wait for the model, of at most "
                f"{self._settings.max_waiting}; try again in a moment"
            )
        with self._changed:
            if self._is_stopping and not self._thread.is_alive():
                raise RefusalError("the server is stopping", status=503, code="stopping")
            append()
            self._changed.notify()

    def _run(self) -> None:
        try:
            self._bank = self._open_bank()
            self._bank.base.on_pass = self.make_room_between_passes
            self._rows = RowWriter(self._bank, max_rows=self._settings.max_rows)
        except BaseException as error:  # the main thread tells of it
            self.loaded.set_exception(error)
            return
        self.loaded.set_result(self._bank)
        try:
            while self._wait():
                was_busy = self._serve()
                if self._tasks and not self._is_stopping and not (was_busy and self._may_wait()):
                    self._run_task(self._tasks.popleft())
        finally:
            self._bank.close()

    def _wait(self) -> bool:
        """Wait for work; return False when the server stops and nothing is left to answer."""
        with self._changed:
            while not self._has_requests():
                if self._is_stopping:
                    return False
                if self._tasks:
                    return True
                self._changed.wait()
        return True

    def _has_requests(self) -> bool:
        rows = self._rows
        is_writing = rows is not None and len(rows) > 0
        return bool(self._calls or self._questions or self._new_rows or is_writing)

    def _serve(self) -> bool:
        """Do one round of all that waits; return whether there was anything."""
        if not self._has_requests():
            return False
        for _ in range(len(self._calls)):
            work, future = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                _settle(future, lambda work=work: work(self.bank))  # type: ignore[misc]
        self._answer_waiting()
        rows = self._rows
        assert rows is not None
        while self._new_rows:
            rows.add(self._new_rows.popleft())
        while self._cancelled_rows:
            rows.cancel(self._cancelled_rows.popleft())
        rows.step()
        return True

    def _answer_waiting(self) -> None:
        """Answer questions of one kind together, the oldest's kind."""
        waiting: list[tuple[AskOrder, Future[Answer]]] = []
        while self._questions and len(waiting) < _MOST_QUESTIONS:
            if waiting and self._questions[0][0].batch != waiting[0][0].batch:
                break
            order, future = self._questions.popleft()
            if future.set_running_or_notify_cancel():
                waiting.append((order, future))
        if not waiting:
            return
        try:
            answers = self._answer([order for order, _ in waiting])
        except Exception as error:  # it is for those who asked; the thread goes on for the others
            if len(waiting) == 1:
                waiting[0][1].set_exception(error)
                return
            for order, future in waiting:  # one of them spoilt it for all
                _settle(future, lambda order=order: self._answer([order])[0])  # type: ignore[misc]
            return
        for (_, future), answer in zip(waiting, answers, strict=True):
            future.set_result(answer)

    def _answer(self, orders: list[AskOrder]) -> list[Answer]:
        mode, length, as_of, explain = orders[0].batch
        questions = [order.question for order in orders]
        if as_of is None and not explain:
            return self.bank.ask_all(questions, mode=mode, max_new_tokens=length)
        return [
            self.bank.ask(question, mode=mode, max_new_tokens=length, as_of=as_of, explain=explain)
            for question in questions
        ]

    def _may_wait(self) -> bool:
        return time.monotonic() < self._tasks[0].asked_at + _LONGEST_PASS_S

    def _run_task(self, task: LongTask) -> None:
        self._task, self._is_in_task = task, True
        try:
            task.result.set_result(task.run(task))
        except BaseException as error:
            if not isinstance(error, LorabankError | TrainingPaused):
                tell_error("task failed", error)
            with suppress(InvalidStateError):
                task.result.set_exception(error)
        finally:
            self._task, self._is_in_task = None, False

    def make_room(self, progress: FleetProgress) -> None:
        """Serve what waits in the middle of a training; call it after each of its steps.

        Raises:
            TrainingPaused: the server stops. TaskCancelledError: the task was cancelled.
        """
        task = self._task
        assert task is not None
        task.on_progress(progress.share_done)
        if self._is_stopping:
            raise TrainingPaused
        if task.is_cancelled:
            raise TaskCancelledError("it was cancelled")
        self._serve_for_a_while()

    def make_room_between_passes(self) -> None:
        """Serve what waits in the middle of measuring; the base calls it.

        Raises:
            TrainingPaused: the server stops, and the task is done anew when it starts.
        """
        if self._is_in_task and self._task and self._task.makes_room:
            if self._is_stopping and self._task.is_repeatable:
                raise TrainingPaused
            self._serve_for_a_while()

    def _serve_for_a_while(self) -> None:
        if not self._has_requests():
            return
        deadline = time.monotonic() + _LONGEST_PASS_S
        self._is_in_task = False
        try:
            with self.bank.base.bare():
                while self._serve() and time.monotonic() < deadline:
                    pass
        finally:
            self._is_in_task = True


def _settle(future: "Future[Any]", work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except Exception as error:  # it is for whoever asked
        future.set_exception(error)
