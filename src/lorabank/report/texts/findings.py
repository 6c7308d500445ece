"""Sentences about what a study of training texts found, made from its numbers."""

from collections.abc import Callable, Sequence

from lorabank.report.estimates import Estimate, comparison, in_words
from lorabank.report.texts.chosen import ARMS, TaughtSetting
from lorabank.report.texts.labels import setting_names
from lorabank.report.wording import listing, seed_sentence

_RECALL = 0.005  # a mean recall below this is none worth a number


def sentences(settings: Sequence[TaughtSetting]) -> list[str]:
    """Return three to five sentences: answers written out, gain, control, drift, seeds."""
    names = setting_names(settings)
    tasks = [
        [setting for setting in settings if setting.task == task]
        for task in dict.fromkeys(setting.task for setting in settings)
    ]
    findings = [_answers(tasks)]
    findings += [_gain(inside, names) for inside in tasks]
    findings += [_drift(settings, names), seed_sentence(s.setting.n_seeds for s in settings)]
    return [finding for finding in findings if finding]


def _answers(tasks: Sequence[Sequence[TaughtSetting]]) -> str:
    """Return what the answers that were written out show, which comes before likelihoods."""
    parts = []
    for settings in tasks:
        scores = [s for s in (setting.written("token_f1") for setting in settings) if s]
        if not scores:
            continue
        low, high = (pick(scores, key=lambda s: s.mean) for pick in (min, max))
        parts.append(
            f"{settings[0].task} from {low.mean:.2f} to {high.mean:.2f} ({comparison(low, high)})"
        )
    if not parts:
        return ""
    best = max(s.average(lambda cell: cell.recall) for settings in tasks for s in settings)
    exact = (
        "Hardly an answer is recalled word for word."
        if best < _RECALL
        else f"Recalled word for word are at most {100 * best:.1f} % of the answers."
    )
    start = "Written out, the answers share few words with the right ones"
    return f"{start}: token F1 on {listing(parts)}. {exact}"


def _gain(settings: Sequence[TaughtSetting], names: dict[int, str]) -> str:
    """Return the highest and the lowest gain at equal tokens, and the highest one's control."""
    arm = next((arm for arm in ARMS.values() if _n_names(settings, arm, names) > 1), None)
    if arm is None:
        return ""
    compared = [setting for setting in settings if setting.arm == arm]
    best, worst = _ends(compared, TaughtSetting.gain)
    gain, least = best.gain(), worst.gain()
    learnt = best.learnt()
    over = (
        f"perhaps no more than another document's adapter gains there (difference "
        f"{in_words(learnt)})"
        if learnt.holds_zero or learnt.mean < 0
        else f"{in_words(learnt)} more than another document's adapter gains there"
    )
    return (
        f"{best.task}, at {arm}: the right answers become likelier by {in_words(gain)} nats per "
        f"token with {names[id(best)]}, {over}, and by {in_words(least)} with "
        f"{names[id(worst)]}; {comparison(gain, least)}."
    )


def _drift(settings: Sequence[TaughtSetting], names: dict[int, str]) -> str:
    """Return which settings move the base most and least on ordinary text."""

    def drift(setting: TaughtSetting) -> Estimate:
        return Estimate(setting.average(lambda cell: cell.kl_to_base_nats), None)

    most, least = _ends(settings, drift)
    return (
        f"On ordinary text the base drifts most with {names[id(most)]}, by a KL of "
        f"{drift(most).mean:.2f} nats per token ({most.task}, {most.arm}), and least with "
        f"{names[id(least)]}, by {drift(least).mean:.2f} ({least.task}, {least.arm}); there is no "
        "interval to judge that by."
    )


def _ends(
    settings: Sequence[TaughtSetting], value: Callable[[TaughtSetting], Estimate]
) -> tuple[TaughtSetting, TaughtSetting]:
    ranked = sorted(settings, key=lambda setting: value(setting).mean)
    return ranked[-1], ranked[0]


def _n_names(settings: Sequence[TaughtSetting], arm: str, names: dict[int, str]) -> int:
    return len({names[id(setting)] for setting in settings if setting.arm == arm})
