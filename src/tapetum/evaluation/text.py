"""Metrics as text for a terminal."""

import unicodedata

import numpy as np

from tapetum.evaluation.metrics import Metrics

# Above this many classes the matrix no longer fits a terminal; the worst of it is shown instead.
_MATRIX_CLASSES = 12
_NAME_WIDTH = 16
_WORST = 5
_FIGURES = {"log_loss": "log-loss", "macro_f1": "mean F1", "auc": "AUC", "ece": "calibration error"}


def format_metrics(metrics: Metrics) -> str:
    """The headline with n and interval, the baseline beside it, then the classes and what was taken for what."""
    lines = [
        f"accuracy {metrics.accuracy}",
        f"always answering '{metrics.majority}' would give {metrics.baseline}",
        ", ".join(
            f"{words} {getattr(metrics, name):.3f}{_interval(metrics, name)}"
            for name, words in _FIGURES.items()
            if not np.isnan(getattr(metrics, name))
        ),
        "",
    ]
    few = len(metrics.classes) <= _MATRIX_CLASSES
    return "\n".join(lines + _class_lines(metrics, few) + [""] + (_matrix(metrics) if few else _confusions(metrics)))


def _interval(metrics: Metrics, name: str) -> str:
    low, high = metrics.intervals.get(name, (np.nan, np.nan))
    return "" if np.isnan(low) else f" ({low:.3f} to {high:.3f})"


def _class_lines(metrics: Metrics, few: bool) -> list[str]:
    shown = list(metrics.classes)
    if not few:
        shown = sorted((c for c in shown if c.recall.n), key=lambda c: c.f1)[:_WORST]
    head = f"{pad('class' if few else 'worst classes', _NAME_WIDTH)}  {'precision':>9}  {'recall':>6}  {'F1':>5}  {'n':>6}"
    return [head] + [
        f"{pad(c.name, _NAME_WIDTH)}  {_percent(c.precision.value):>9}  {_percent(c.recall.value):>6}  {c.f1:>5.3f}"
        f"  {c.recall.n:>6,}"
        for c in shown
    ]


def _matrix(metrics: Metrics) -> list[str]:
    width = max(6, *(min(8, _width(c.name)) for c in metrics.classes), *(len(f"{v:,}") for v in metrics.confusion_KK.flat))
    lines = [pad("true \\ predicted", _NAME_WIDTH) + "".join("  " + pad(c.name, width, right=True) for c in metrics.classes)]
    for c, row in zip(metrics.classes, metrics.confusion_KK, strict=True):
        lines.append(pad(c.name, _NAME_WIDTH) + "".join(f"  {value:>{width},}" for value in row))
    return lines


def _confusions(metrics: Metrics) -> list[str]:
    wrong = metrics.confusion_KK.copy()
    np.fill_diagonal(wrong, 0)
    pairs = [divmod(int(i), len(wrong)) for i in wrong.ravel().argsort()[::-1][:_WORST]]
    names = [c.name for c in metrics.classes]
    return ["most often mistaken"] + [
        f"{wrong[true, called]:>6,}  {names[true]} taken for {names[called]}" for true, called in pairs if wrong[true, called]
    ]


def pad(text: str, width: int, right: bool = False) -> str:
    """`text` cut or filled to `width` columns of a terminal, where Korean and Chinese signs take two each.

    >>> pad("cat", 5) + "|", pad("고양이", 8) + "|"
    ('cat  |', '고양이  |')
    """
    while _width(text) > width:
        text = text[:-2] + "…"
    filling = " " * (width - _width(text))
    return filling + text if right else text + filling


def _width(text: str) -> int:
    return sum(map(_sign_width, text))


def _sign_width(sign: str) -> int:
    # Marks, joiners, and the vowels and ends of Hangul that is written in parts take no room of their own.
    if unicodedata.category(sign) in ("Mn", "Me", "Cf") or "\u1160" <= sign <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{share * 100:.1f} %"
