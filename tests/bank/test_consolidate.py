"""Consolidation: facts are taught, levels merged, stale values leave, and nothing is lost."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.fact_book import FactBook
from lorabank.bank.opening import identify_base
from lorabank.bank.write import consolidation_plan
from lorabank.bank.write.consolidate import ConsolidateOptions
from lorabank.bank.write.consolidation_plan import plan_consolidation
from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.recall_check import recalled_in_any_form
from lorabank.errors import UsageError
from lorabank.store.lock import CONSOLIDATION, locked
from lorabank.store.records import Draft, Key, Source
from lorabank.store.store import Store
from lorabank.tasks.examples import Example

from .conftest import TINY

TEACH = ConsolidateOptions(settings=TINY)
QUICK = ConsolidateOptions(settings=replace(TINY, exposures=1))


@pytest.fixture
def empty(tiny: Base, tmp_path: Path) -> Bank:
    store = Store.create(tmp_path / "empty", base=identify_base(tiny.info))
    return Bank(store, tiny, embeds=False)


def states(store: Store) -> list[tuple[str, str | None, bool]]:
    return [(f.answer, f.module, f.invalid_at is None) for f in store.facts()]


def remember(bank: Bank, examples: list[Example]) -> None:
    bank.remember([(example.question, example.answer) for example in examples])


def recalls(bank: Bank, module: str, examples: list[Example]) -> list[bool]:
    version = bank.store.current(module)
    with bank.reader.loaded_fleet([version]) as fleet:
        return recalled_in_any_form(bank.base, examples, fleet=fleet, activated=True)


def test_pending_facts_are_taught_and_stale_ones_unlearnt(empty: Bank, book: list[Example]):
    remember(empty, book[:3])
    (step,) = plan_consolidation(empty.store)
    assert (step.kind, step.module, step.why) == ("teach", "memory-1", "3 facts pending")
    (report,) = empty.consolidate(TEACH)
    assert (report.module, report.facts, report.recall) == ("memory-1", 3, 1.0)
    assert {module for _, module, _ in states(empty.store)} == {"memory-1"}
    assert empty.store.verify() == []
    answer = empty.ask(book[0].question)
    assert (answer.text, answer.module, answer.version) == (book[0].answer, "memory-1", 1)
    assert plan_consolidation(empty.store) == []
    assert empty.consolidate(TEACH) == []

    changed = replace(book[0], answer="000-000-0000")
    remember(empty, [changed])
    (step,) = plan_consolidation(empty.store)
    assert step.why == "1 fact pending, 1 module merged, 1 value no longer held"
    assert step.seconds is not None
    assert step.n_bytes == 0
    (report,) = empty.consolidate(TEACH)
    assert (report.module, report.facts, report.recall) == ("memory-2", 3, 1.0)
    assert empty.store.names() == ["memory-2"]
    assert recalls(empty, "memory-2", [changed, *book[1:3]]) == [True] * 3
    assert recalls(empty, "memory-2", [book[0]]) == [False]
    assert [e.what for e in empty.history("memory-1")] == ["write", "merge"]
    old = [fact for fact in empty.store.facts() if fact.invalid_at is not None]
    assert [(fact.answer, fact.module) for fact in old] == [(book[0].answer, None)]
    assert plan_consolidation(empty.store) == []


def test_a_written_module_is_written_again_without_its_stale_value(bank: Bank, book: list[Example]):
    remember(bank, [replace(book[0], answer="000-000-0000")])
    kinds = [(step.kind, step.module, step.stale) for step in plan_consolidation(bank.store)]
    assert kinds == [("teach", "memory-1", 0), ("rewrite", "north", 1)]
    reports = bank.consolidate(TEACH)
    written = [(report.module, report.version, report.facts) for report in reports]
    assert written == [("memory-1", 1, 1), ("north", 2, 3)]
    assert recalls(bank, "north", book[1:4]) == [True] * 3
    assert recalls(bank, "north", book[:1]) == [False]
    assert bank.store.current("north").record["contradicts"] == []
    assert bank.ask(book[0].question).text == "000-000-0000"
    assert plan_consolidation(bank.store) == []
    bank.rollback("north")  # to the version that knows the old value: it is masked again
    assert bank.ask(book[0].question).text == "000-000-0000"
    assert [step.kind for step in plan_consolidation(bank.store)] == ["rewrite"]


def teach_untrained(store: Store, step: consolidation_plan.ConsolidationStep) -> None:
    """Do a step as consolidation does, without training."""
    keys = [Key("question", fact.question) for fact in step.facts]
    sources = [Source("s", fact.sha256, 1) for fact in step.facts]
    record = {"facts": len(keys), "seconds": 2.0 * len(keys), "adapter_bytes": 100}
    with store.writing(what="t") as tx:
        for version in step.replaces:
            hashes = [source.sha256 for source in version.sources]
            tx.forget(version.module, what="merge", kept_sources=hashes)
        tx.put(step.module, Draft({"w": step.module.encode()}, record, sources, keys))


def test_modules_of_a_level_are_merged_up_to_what_an_adapter_holds(empty: Bank):
    sizes = []
    for i in range(20):
        empty.remember([(f"Who is {i} {j}?", f"{i} {j}") for j in range(12)])
        (step,) = plan_consolidation(empty.store)
        assert step.n_facts <= consolidation_plan.MOST_FACTS
        teach_untrained(empty.store, step)
        assert empty.store.names()
        sizes.append(len(empty.store.names()))
    facts_in = [len(version.sources) for version in empty.store.current_versions()]
    assert sum(facts_in) == 240
    assert max(sizes) <= 8
    assert sorted(facts_in)[-1] == 192
    assert FactBook(empty.store.facts()).pending == []
    empty.remember([("Who is 0 0?", "changed")])
    big = empty.store.facts("who is 0 0")[0].module
    steps = plan_consolidation(empty.store)
    assert ("rewrite", big, 191, 382.0) in [
        (step.kind, step.module, step.n_facts, step.seconds) for step in steps
    ]
    assert plan_consolidation(empty.store, pending_limit=2)[0].kind == "rewrite"


def test_a_module_of_nothing_but_stale_values_is_dropped(empty: Bank, book: list[Example]):
    remember(empty, book[:1])
    empty.consolidate(QUICK)
    remember(empty, [replace(book[0], answer="1")])
    steps = plan_consolidation(empty.store, pending_limit=9)
    assert [(step.kind, step.module, step.n_facts) for step in steps] == [("drop", "memory-1", 0)]
    assert empty.consolidate(replace(QUICK, pending_limit=9)) == []
    assert empty.store.names() == []
    assert states(empty.store) == [(book[0].answer, None, False), ("1", None, True)]
    assert empty.ask(book[0].question).text == "1"


def test_two_consolidations_are_kept_apart_and_facts_remembered_meanwhile(
    empty: Bank, book: list[Example]
):
    remember(empty, book[:2])
    with locked(empty.store.path, what="consolidate", file=CONSOLIDATION):
        with pytest.raises(UsageError, match=r"being consolidated by process .*; try again later"):
            empty.consolidate(QUICK)
        remember(empty, book[2:3])
    assert empty.consolidate(QUICK)[0].facts == 3
    with pytest.raises(UsageError, match="--pending-limit must be at least 1, got 0"):
        ConsolidateOptions(pending_limit=0)


def test_a_fact_may_go_or_change_while_it_is_trained(empty: Bank, book: list[Example]):
    remember(empty, book[:2])
    first = empty.store.facts()[0]

    def forget(_: object) -> None:
        with Store.open(empty.store.path) as other, other.writing(what="t") as tx:
            tx.forget_fact(first.key)

    with pytest.raises(UsageError, match="forgotten while it was trained; nothing of it is kept"):
        empty.consolidate(replace(QUICK, on_planned=forget))
    assert empty.store.names() == []
    assert len(empty.store.facts()) == 1

    def supersede(_: object) -> None:
        remember(empty, [replace(example, answer="1") for example in book[:2]])

    empty.consolidate(replace(QUICK, on_planned=supersede))
    assert [empty.ask(example.question).text for example in book[:2]] == ["1", "1"]
    assert len(FactBook(empty.store.facts()).stale) == 1


DIE = """
import os, signal, sys
from pathlib import Path
from lorabank.bank.bank import Bank
from lorabank.bank.write import consolidate
from lorabank.engine.backbone.base import load_info
from lorabank.engine.models.registry import find_model
from lorabank.store.store import Store
from tests.bank.test_consolidate import QUICK
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
bank, model, places = Path(sys.argv[1]), sys.argv[2], [int(n) for n in sys.argv[3:]]
base = load_info(find_model(model), dtype="float32", device="cpu")
n, last, is_counting = 0, 0, False
def count(event, _):
    global n
    if is_counting and event in EVENTS:
        n += 1
        if n == last:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
commit = consolidate.commit_trained
def commit_counted(*args, **options):
    global is_counting
    is_counting = True
    return commit(*args, **options)
consolidate.commit_trained = commit_counted
for last in places:  # the child of place 0 is let go
    child = os.fork()
    if child == 0:
        Bank(Store.open(Path(f"{bank}-{last}")), base, embeds=False).consolidate(QUICK)
        print(n, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_a_consolidation_killed_in_its_commit_loses_no_fact_and_doubles_none(
    empty: Bank, book: list[Example], tiny_folder: Path
):
    remember(empty, book[:2])
    empty.consolidate(QUICK)
    remember(empty, [book[2], replace(book[0], answer="1")])
    before = states(empty.store)
    places = (0, 1, 8, 20, 40, 60)
    for place in places:
        shutil.copytree(empty.store.path, f"{empty.store.path}-{place}")
    command = [sys.executable, "-c", DIE, str(empty.store.path), str(tiny_folder)]
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, *filter(None, sys.path)])
    run = subprocess.run(
        [*command, *map(str, places)],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},  # a fork has one thread
        timeout=300,
    )
    assert run.stdout, run.stderr
    assert int(run.stdout.split()[0]) > max(places)
    outcomes = set()
    for place in places:
        with Store.open(Path(f"{empty.store.path}-{place}")) as store:
            after = states(store)
            assert store.verify() == []
            assert sorted(a for a, _, _ in after) == sorted(a for a, _, _ in before)
            if after != before:
                assert {module for _, module, holds in after if holds} == {"memory-2"}
                assert store.names() == ["memory-2"]
            outcomes.add(after == before)
    assert outcomes == {True, False}
