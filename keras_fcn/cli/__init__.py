"""The command `keras-fcn`: parses, calls the package, prints.

Commands import Keras only when they run, so that `--help` is fast.
"""

import contextlib
import os
import re
import select
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_fcn.cli.parser import build_parser
from keras_fcn.cli.quiet_imports import import_keras
from keras_fcn.spelling import proposal

# The exit codes that a shell reports for SIGINT, SIGPIPE and SIGTERM.
_INTERRUPTED, _CLOSED_PIPE, _TERMINATED = 130, 141, 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    0 for success, 1 for a failure, 2 for wrong options, 130 for Ctrl-C, 141 if standard output is a
    closed pipe, 143 for SIGTERM. Results go to standard output; progress, warnings and errors to
    standard error.
    """
    options = _parsed(arguments)
    _check_no_empty_text(options)
    _expand_home(options)
    _escape_unencodable_letters()
    try:
        with _sigterm_interrupts():
            import_keras()
            warnings.showwarning = _show_warning
            code = options.run(options) or 0
            sys.stdout.flush()
            return code
    except (ImportError, OSError, ValueError) as error:
        if isinstance(error, BrokenPipeError) and _standard_output_is_closed():
            return _CLOSED_PIPE
        if options.traceback:
            raise
        message = of_this_command(" ".join(str(error).split()), options.parser.format_help())
        _write_to_stderr(f"keras-fcn: error: {message}")
        return 1
    except _Terminated:
        _write_to_stderr(f"keras-fcn: terminated{_resume_hint(options)}")
        return _TERMINATED
    except KeyboardInterrupt:
        _write_to_stderr(f"keras-fcn: interrupted{_resume_hint(options)}")
        return _INTERRUPTED


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""

    exit_code = _TERMINATED  # Of one of several processes, too; see `processes.watched`.


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Context manager in which SIGTERM raises `_Terminated`; the next one ends the process.

    Schedulers and containers stop a process so. By default it ends without closing its trackers and
    removing its temporary files, and the first process of a container ignores the signal.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminate(*_):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _parsed(arguments):
    """Returns the options; an unknown one is an error of its command, which proposes another."""
    options, unknown = build_parser().parse_known_args(arguments)
    if unknown:
        known = sorted(set(re.findall(_OPTION, options.parser.format_help())))
        misspelt = next((text for text in unknown if text.startswith("--")), "")
        options.parser.error(
            f"unrecognized arguments: {' '.join(unknown)}."
            + proposal(misspelt.partition("=")[0], known)
        )
    return options


def _check_no_empty_text(options):
    """An empty name, as a shell makes of an unset variable, would be the current folder."""
    for name, value in vars(options).items():
        if "" in (value if isinstance(value, list) else [value]):
            option = f"--{name.replace('_', '-')}"
            is_option = option in re.findall(_OPTION, options.parser.format_help())
            shown = option if is_option else name
            options.parser.error(f"{shown} must not be empty. Received: ''.")


def _expand_home(options):
    """Replaces ~ at the start of every value by the home folder: shells leave it in `--out=~/run`.

    A value that is no path stays as it is, unless it begins with ~ and a slash or a user's name.
    """
    for name, value in vars(options).items():
        if isinstance(value, str):
            setattr(options, name, os.path.expanduser(value))
        elif isinstance(value, list):
            expanded = [os.path.expanduser(v) if isinstance(v, str) else v for v in value]
            setattr(options, name, expanded)


def of_this_command(message: str, help_text: str) -> str:
    """Returns a message without the parentheses that contain options of other commands."""

    def kept(brackets):
        options = re.findall(_OPTION, brackets[0])
        return brackets[0] if all(re.search(f"{o}(?![a-z-])", help_text) for o in options) else ""

    return re.sub(rf" \([^()]*{_OPTION}[^()]*\)", kept, message)


_OPTION = "--[a-z][a-z-]*"


def _resume_hint(options):
    resumes = getattr(options, "tile", None) is not None or options.command == "import"
    if resumes or (options.command == "reproduce" and options.train):
        return "; run the same command again to resume"
    run = getattr(options, "resume", None) or getattr(options, "out", None)
    if options.command != "train" or run is None or not Path(run, "config.toml").is_file():
        return ""
    kept = [
        f" --{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name in ("checkpoint_every", "devices", "gradients")
        if (value := getattr(options, name)) is not None
    ]
    kept += [" --keep-state"] * options.keep_state
    kept += [f" --track {name}" for name in options.track]
    return f"; resume with: keras-fcn train --resume {shlex.quote(run)}{''.join(kept)}"


def _escape_unencodable_letters():
    """Prints characters that the terminal's encoding lacks as escapes instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _standard_output_is_closed():
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise Python flushes once more at exit and reports the error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    # With PYTHONUNBUFFERED, the failed print left nothing to flush: the pipe itself is asked.
    return _is_pipe_without_reader(sys.stdout)


def _is_pipe_without_reader(stream):
    if not hasattr(select, "poll"):  # Windows, which raises another error.
        return False
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError):  # A stream without a file descriptor.
        poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _show_warning(message, category, filename, lineno, file=None, line=None):
    if "keras_fcn" in filename:
        _write_to_stderr(f"keras-fcn: warning: {message}")


def _write_to_stderr(text):
    # A closed standard error must not end the command.
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
