"""The house: imports point down the list in DESIGN order, files stay short."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "lorabank"
# Each may import what stands above it, and itself; those on one line know nothing of each other.
FLOORS = [
    {"errors"},
    {"files", "strict_json"},
    {"tasks", "lora", "retrieval", "store"},
    {"engine"},
    {"planning"},
    {"synthesis"},
    {"bank"},
    {"study"},
    {"report"},
    {"bench"},
    {"server", "integrations"},
    {"cli"},
]
# The same inside the rooms that have rooms of their own.
INNER_FLOORS = {
    "tasks": [
        {"fields", "folding", "example", "question_shapes"},
        {"csv_rows", "joined_facts", "record_layouts", "table_files"},
        {"examples"},
        {"made_wordings", "near_misses"},
        {"synthetic"},
        {"scoring", "control"},
        {"datasets"},
    ],
    "engine": [
        {"settings", "models", "encoding"},
        {"backbone"},
        {"fleet"},
        {"adapters"},
        {"runtimes"},
        {"inference"},
        {"training"},
        {"evaluation"},
        {"peft_backend"},
        {"shrink"},
        {"fit_rank"},
        {"learn", "recall", "shrink_folder"},
        {"always_on"},
    ],
    "bank": [
        {"drafts", "fact_book", "opening", "stored_text"},
        {"module_reader"},
        {"route"},
        {"write"},
        {"answer"},
        {"bank"},
        {"compare"},
    ],
}
FILES = sorted(SOURCE.rglob("*.py"))
PEER = SOURCE / "bench" / "peer.py"  # plain PEFT, to measure ourselves against
STUDY_KINDS = ("capacity", "modules", "texts", "documents", "wording", "continual", "ranks")
# Inside tasks, each may import what stands to its left, and itself.
TASK_FLOORS = ("fields", "csv_rows", "examples", "synthetic", "scoring", "datasets")
HEAVY = {"torch", "transformers", "peft"}


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if name in names)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path):
    if path.name == "__init__.py" and path.parent == SOURCE:
        return
    mine = room(path)
    theirs = {name.split(".")[1] for name in imports(path) if name.startswith("lorabank.")}
    for other in theirs - {mine}:
        assert floor(other) < floor(mine), f"{mine} imports {other}"


@pytest.mark.parametrize("top", INNER_FLOORS)
def test_imports_point_down_inside_a_room(top: str):
    floor_of = {name: number for number, names in enumerate(INNER_FLOORS[top]) for name in names}
    for path in (SOURCE / top).rglob("*.py"):
        if path == SOURCE / top / "__init__.py":
            continue
        inner = path.relative_to(SOURCE / top).parts[0].removesuffix(".py")
        for name in imports(path):
            parts = name.split(".")
            if parts[:2] == ["lorabank", top] and parts[2:] and parts[2] != inner:
                assert floor_of[parts[2]] < floor_of[inner], f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_the_engine_knows_transformers_and_peft(path: Path):
    roots = {name.split(".")[0] for name in imports(path)}
    if room(path) != "engine" and path != PEER:
        assert not roots & {"transformers", "peft"}
    if room(path) in {"errors", "tasks", "store"}:
        assert "torch" not in roots


@pytest.mark.parametrize("kind", STUDY_KINDS)
def test_a_kind_of_study_knows_nothing_of_the_others(kind: str):
    others = {f"lorabank.study.{other}" for other in STUDY_KINDS if other != kind}
    for path in (SOURCE / "study" / kind).glob("*.py"):
        rooms = {".".join(name.split(".")[:3]) for name in imports(path)}
        assert not rooms & others, path


@pytest.mark.parametrize("name", TASK_FLOORS)
def test_imports_inside_tasks_point_down(name: str):
    folder, above = SOURCE / "tasks" / name, TASK_FLOORS[TASK_FLOORS.index(name) + 1 :]
    for path in folder.glob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "lorabank.tasks"
            ):
                targets = [f"{node.module}.{alias.name}".split(".")[2] for alias in node.names]
                above = TASK_FLOORS[TASK_FLOORS.index(name) + 1 :]
                assert not set(targets) & set(above), path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_are_short(path: Path):
    assert len(path.read_text().splitlines()) <= 400
