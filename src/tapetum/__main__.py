"""The program `tapetum`, also as `python -m tapetum`: run a command, turn what went wrong into a sentence and an exit code."""

import io
import os
import sys


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 a mistake that the user can mend, 3 a process that worked with this one
    was lost, 130 Ctrl-C, 143 SIGTERM, 1 a bug, or what `check --strict` finds.
    """
    from tapetum import cli, processes
    from tapetum.errors import UserError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name that is not UTF-8, or a terminal that lacks a sign, must not end a run.
            stream.reconfigure(errors="backslashreplace")
    if processes.asked_for():
        # Who is lost is said in our words; torch's would be a hundred lines from each process.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    arguments = sys.argv[1:]
    traceback = "--traceback" in arguments
    try:
        cli.run([argument for argument in arguments if argument != "--traceback"])
    except UserError as error:
        if traceback:
            raise
        print(f"tapetum: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except processes.Lost as lost:
        sys.exit(lost.exit_code)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; what is left unsaid is nobody's loss.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        print("tapetum: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
