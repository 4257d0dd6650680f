"""Shows progress on standard error: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from keras_fcn.distribution import processes

_PLAIN_LINES = 4


@contextlib.contextmanager
def progress_bar(title: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Yields a function `advance(steps=1, note="")`.

    Args:
        title: Name of the task, such as "epoch 1/8".
        total: Number of steps; `None` if it is unknown.
    """
    show = _terminal_bar if sys.stderr.isatty() else _plain_lines
    if processes.rank() > 0:
        show = _nothing
    with show(title, total) as advance:
        yield advance


def say(text: str) -> None:
    """Writes a line to standard error, in the first of several processes."""
    if processes.rank() == 0:
        _write(text)


def duration(seconds: float) -> str:
    """Returns a time in words: "40 s", "12 min", "3 h 20 min".

    Examples:
        >>> [duration(seconds) for seconds in (40, 715, 12000)]
        ['40 s', '12 min', '3 h 20 min']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _write(text):
    # A training continues after its standard error was closed.
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _nothing(title, total):
    yield lambda steps=1, note="": None


@contextlib.contextmanager
def _terminal_bar(title, total):
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
        bars.TextColumn("ETA"),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.fields[note]}"),
    )
    with bars.Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, note="")

        def advance(steps=1, note=""):
            progress.update(task, advance=steps, note=note)

        yield advance


@contextlib.contextmanager
def _plain_lines(title, total):
    done = 0

    def advance(steps=1, note=""):
        nonlocal done
        lines_before = lines()
        done += steps
        if lines() > lines_before:
            of = f"{done}/{total}" if total else f"{done}"
            _write(f"{title}: {of} {note}".rstrip())

    def lines():
        # Of an unknown number of steps a line whenever their number has doubled.
        return done * _PLAIN_LINES // total if total else done.bit_length()

    yield advance
