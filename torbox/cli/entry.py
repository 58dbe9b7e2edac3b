# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments in, exit code out."""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from torbox import __version__
from torbox.cli.messages import complain, say
from torbox.errors import EXIT_TORBOX, EXIT_USAGE, SetupError, TorboxError, UsageError
from torbox.streams import occupy_closed

_DESCRIPTION = "Run any program in a rootless sandbox whose only way out is Tor."
_EPILOG = """\
examples:
  torbox run -- curl https://check.torproject.org/api/ip
  torbox run --profile browser firefox-esr --headless --screenshot /tmp/page.png https://example.org
  torbox shell

exit codes: the program's own; 125 torbox failed, 126 not executable, 127 not found,
2 wrong usage or profile, 128+N the program was ended by signal N
"""


class _Parser(argparse.ArgumentParser):
    """Errors as torbox words them, instead of a usage text and an exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, advice=f"See {self.prog} --help.")


def command() -> NoReturn:
    """The `torbox` command: `main` as a whole process, without what only costs time in one.

    Nothing that is made on the way to a program's start is garbage, so the collector has nothing to look
    for before `Supervisor.run` (3 ms); and what is open at the end the kernel closes faster than Python
    takes itself apart (12 ms of 85 for `torbox run true`).
    """
    gc.disable()
    code = main()
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
    os._exit(code)  # standard output was flushed by main, where that may still fail


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; every failure becomes one message and an exit code."""
    try:
        occupy_closed()
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        if options.command is None:
            _parser().print_help(sys.stderr)
            return EXIT_USAGE
        code = _dispatch(options)
        _flush_output()
        return code
    except TorboxError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + 2
    except MemoryError:
        complain(_failed_call(OSError(errno.ENOMEM, "")))
        return EXIT_TORBOX
    except OSError as error:
        complain(_failed_call(error))
        _leave_output()
        return EXIT_TORBOX
    except Exception as error:
        return _last_resort(error)


def _flush_output() -> None:
    """Write what was printed, now, while a full disk can still be told. A reader who has gone is no fault."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_output()


def _leave_output() -> None:
    """What could not be written shall not be tried again when Python ends, with a message of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)


def _failed_call(error: OSError) -> SetupError:
    """A call of the kernel's that no step expected to fail: mostly a limit that is reached."""
    number = error.errno or 0
    advice = {
        errno.EAGAIN: "The limit of processes is reached; see ulimit -u.",
        errno.EMFILE: "The limit of open files is reached; see ulimit -n.",
        errno.ENFILE: "This machine's limit of open files is reached; see sysctl fs.file-max.",
        errno.ENOMEM: "There is not enough memory.",
    }.get(number, "")
    return SetupError("start", number, str(error.filename or ""), advice=advice)


def _last_resort(error: Exception) -> int:
    """A bug: said in one line; the traceback is for whoever asks for it by TORBOX_TRACEBACK=1."""
    if os.environ.get("TORBOX_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    place = f" ({os.path.basename(where.tb_frame.f_code.co_filename)}:{where.tb_lineno})" if where else ""
    say(f"this is a bug in torbox: {type(error).__name__}: {error}{place}")
    say("Set TORBOX_TRACEBACK=1 to see more, and please report it.")
    return EXIT_TORBOX


def _dispatch(options: argparse.Namespace) -> int:
    if options.command in ("run", "shell"):
        from torbox.cli import run

        return run.run(options)
    from torbox.cli import show

    if options.command == "doctor":
        return show.doctor(as_json=options.json)
    if options.profile_command == "list":
        return show.profile_list()
    if options.profile_command == "show":
        return show.profile_show(options.name)
    return show.profile_check(options.names)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    return _parser().parse_args(list(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="torbox",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"torbox {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    run = commands.add_parser("run", help="run a program in a sandbox", allow_abbrev=False)
    _add_sandbox_options(run, default_profile="default")
    run.add_argument(
        "argv", nargs=argparse.REMAINDER, metavar="[--] COMMAND [ARG…]", help="the program and its arguments"
    )

    shell = commands.add_parser("shell", help="open a shell in a sandbox", allow_abbrev=False)
    _add_sandbox_options(shell, default_profile="shell")
    shell.set_defaults(argv=[])

    doctor = commands.add_parser("doctor", help="see whether this machine can run torbox", allow_abbrev=False)
    doctor.add_argument("--json", action="store_true", help="print the checks as JSON")

    profile = commands.add_parser("profile", help="list, show or check profiles", allow_abbrev=False)
    verbs = profile.add_subparsers(
        dest="profile_command", metavar="VERB", required=True, parser_class=_Parser
    )
    verbs.add_parser("list", help="every profile that can be named", allow_abbrev=False)
    show = verbs.add_parser("show", help="a profile with all that it extends", allow_abbrev=False)
    show.add_argument("name", metavar="NAME|FILE")
    check = verbs.add_parser("check", help="find every fault of a profile", allow_abbrev=False)
    check.add_argument("names", metavar="NAME|FILE", nargs="+")
    return parser


def _add_sandbox_options(parser: argparse.ArgumentParser, *, default_profile: str) -> None:
    parser.add_argument(
        "--profile",
        default=default_profile,
        metavar="NAME|FILE",
        help=f"the profile (default: {default_profile})",
    )
    parser.add_argument(
        "--upstream",
        metavar="URL",
        help="where all traffic goes: tor, tor://HOST:PORT, tor+unix:PATH,"
        " socks5://[USER:PASS@]HOST:PORT, direct or block"
        " (default: the profile's, else the Tor that is found)",
    )
    parser.add_argument(
        "--enable-routing",
        action="store_true",
        help="with --upstream direct: let connections out, from this machine's own address",
    )
    parser.add_argument(
        "--host-loopback",
        action="store_true",
        help="with --upstream direct: 10.0.2.2 and fd00::2 lead to this machine's 127.0.0.1 and ::1",
    )
    parser.add_argument("--name", metavar="NAME", help="a name for the sandbox, one at a time")
    parser.add_argument("--user", metavar="NAME", help="started as root: the user to run as")
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="store_true", help="say what is done")
    volume.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
