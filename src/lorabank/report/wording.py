"""Numbers, seeds and budgets in words, the same everywhere in a report."""

from collections.abc import Iterable, Sequence

_OBJECTIVES = {
    "ce": "next-token loss",
    "distil": "distillation",
    "memft-threshold": "MemFT",
    "memft-window": "MemFT, window",
}
_VARIANTS = {
    "lora": "plain LoRA",
    "rslora": "rsLoRA",
    "pissa": "PiSSA",
    "orthogonal": "orthogonal LoRA",
    "frozen-a": "LoRA with A frozen",
    "dora": "DoRA",
}
_RECIPES = {"sound": "our recipe", "paper": "the paper's recipe"}
FEWEST_SEEDS = 3  # for an interval; lora/intervals.py gives none below


def number(x: float) -> str:
    """Return three significant digits, thousands with commas: 0.0516, 40,704, 7.6e-05."""
    if x == int(x) and abs(x) < 1e15:
        return f"{int(x):,}"
    if abs(x) >= 1000:
        return f"{x:,.0f}"
    return f"{x:.3g}"


def optional_number(x: float | None) -> str:
    """Return a number for a table's cell, which stays empty where there is none."""
    return "" if x is None else number(x)


def percent(share: float) -> str:
    """Return whole percent; a tenth where whole ones would claim all or nothing."""
    whole = f"{share:.0%}"
    if (whole == "100%" and share < 1) or (whole in ("0%", "-0%") and share):
        whole = f"{share:.1%}"
    return whole.replace("%", " %")


def quantity(x: float, unit: str) -> str:
    return percent(x) if unit == "share" else number(x)


def duration(seconds: float) -> str:
    """Return a time with the unit a person would choose: 3.2 s, 12 min, 4 h 05 min."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(n_bytes: float) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes:.0f} bytes"


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def listing(names: Sequence[str]) -> str:
    """Return names joined as in `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def seeds(counts: Iterable[int]) -> str:
    """Return how many seeds stand behind points, and whether they allow an interval."""
    numbers = list(counts)
    fewest, most = min(numbers), max(numbers)
    if fewest != most:
        text = f"{fewest} to {most} seeds"
        if most < FEWEST_SEEDS:
            return f"{text}, too few for intervals"
        return text if fewest >= FEWEST_SEEDS else f"{text}, an interval from {FEWEST_SEEDS} on"
    if most >= FEWEST_SEEDS:
        return f"{most} seeds"
    return "one seed, no interval" if most == 1 else f"{most} seeds, too few for an interval"


def n_seeds(counts: Iterable[int]) -> str:
    """Return how many seeds stand behind numbers: `one seed`, `3 seeds`, `1 to 3 seeds`."""
    numbers = list(counts)
    fewest, most = min(numbers), max(numbers)
    if fewest != most:
        return f"{fewest} to {most} seeds"
    return "one seed" if most == 1 else f"{most} seeds"


def seed_sentence(counts: Iterable[int]) -> str:
    """Return what intervals over documents cannot tell: how training differs between seeds."""
    numbers = list(counts)
    if max(numbers) == 1:
        return (
            "One seed: intervals are over documents and their questions, and do not show how "
            "much another training run would differ."
        )
    return f"Behind each number: {n_seeds(numbers)}; intervals are over seeds and documents."


def budget_name(recipe: str, exposures: float | str) -> str:
    """Return the name of a recipe and how long it trains."""
    if exposures == "converged":
        budget = "to convergence"
    elif exposures == "paper":
        budget = "its number of steps" if recipe == "paper" else "the paper's number of steps"
    elif isinstance(exposures, str):
        budget = exposures
    else:
        budget = f"{number(exposures)} exposure{'' if exposures == 1 else 's'}"
    return f"{recipe_name(recipe)}, {budget}"


def recipe_name(recipe: str) -> str:
    """Return whose settings of training a recipe is."""
    return _RECIPES.get(recipe, f"{recipe} recipe")


def base_name(base: str) -> str:
    """Return a base model's name without the folder and the ending of its file."""
    return base.rpartition("/")[2].removesuffix(".gguf")


def objective_name(objective: str) -> str:
    """Return the training objective as the literature names it."""
    return _OBJECTIVES.get(objective, objective)


def variant_name(variant: str) -> str:
    """Return the variant of LoRA as the literature names it."""
    return _VARIANTS.get(variant, variant)


def activation_name(activated: bool) -> str:
    """Return for which tokens the adapter is applied."""
    return "the adapter on answers only" if activated else "the adapter on every token"
