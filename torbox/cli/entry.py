# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments in, exit code out."""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, TypeAlias

from torbox import __version__, allowance
from torbox.cli.messages import complain, say
from torbox.errors import EXIT_TORBOX, EXIT_USAGE, SetupError, TorboxError, UsageError
from torbox.streams import occupy_closed

_COLUMNS = 80  # until help is shown
_BEFORE_COMMANDS = ("-h", "--help", "--version", "--")
_DESCRIPTION = "Run any program in a rootless sandbox whose only way out is Tor."
_EPILOG = """\
examples:
  torbox run -- curl https://check.torproject.org/api/ip
  torbox run --upstream socks5://127.0.0.1:1080 -- git ls-remote https://git.kernel.org/pub/scm/git/git.git
  torbox shell
  torbox verify

exit codes: the program's own; 125 torbox failed, 126 not executable, 127 not found,
2 wrong usage or profile, 128+N the program was ended by signal N
"""


_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal, which is looked at when there is help to show.

    argparse makes a formatter for each option that it is told of, and imports shutil for the width (2 ms);
    another for each parser's name, so those are given.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_COLUMNS)

    def format_help(self) -> str:
        import shutil

        self._width = shutil.get_terminal_size().columns - 2  # as the base class has it
        return super().format_help()


class _Parser(argparse.ArgumentParser):
    """Errors as torbox words them, instead of a usage text and an exit."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": _Formatter, "allow_abbrev": False, **settings})
        for name in (None, "store"):
            self.register("action", name, _Once)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, advice=f"See {self.prog} --help.")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What a command does not know it says itself: argparse leaves it to `torbox`, without options."""
        namespace, extra = super().parse_known_args(args, namespace)
        if extra:
            from torbox.cli import mistakes

            raise mistakes.unrecognized(self.prog, extra, self._option_string_actions)
        return namespace, extra

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse has it, in other words; without this method, in argparse's."""
        if action.choices is not None and value not in action.choices:
            from torbox.cli import mistakes

            raise mistakes.no_choice(
                self.prog, str(action.metavar or action.dest), str(value), action.choices
            )


class _Once(argparse._StoreAction):
    """A value that an option holds, given once: of two the first would be dropped without a word.

    The second --upstream, behind a first that was meant, sends everything another way.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option: str | None = None,
    ) -> None:
        given = vars(namespace).setdefault("_given", set())
        if option is not None and self.dest in given:
            raise argparse.ArgumentError(self, "given more than once, and it holds one value")
        given.add(self.dest)
        super().__call__(parser, namespace, values, option)


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
    if code < 0:
        _end_by_signal(-code)
    os._exit(
        128 - code if code < 0 else code
    )  # standard output was flushed by main, where that may still fail


def _end_by_signal(number: int) -> None:
    """So that who waits for torbox can tell that the user wants to stop: a shell ends its loop, its script.

    https://www.cons.org/cracauer/sigint.html. Where the signal is ignored nothing comes of it.
    """
    if signal.getsignal(number) is not signal.SIG_IGN:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; every failure becomes one message and an exit code.

    A negative one is that of a signal which asked for the end; torbox is to end by it.
    """
    try:
        occupy_closed()
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        if options.command is None:
            parser().print_help(sys.stderr)
            return EXIT_USAGE
        code = _dispatch(options)
        _flush_output()
        return code
    except TorboxError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt as error:
        return -getattr(error, "number", signal.SIGINT)
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
    if options.command == "verify":
        from torbox.cli import verify

        return verify.verify(options)
    if options.command == "home":
        from torbox.cli import home

        return home.home(options)
    from torbox.cli import show

    if options.command == "doctor":
        return show.doctor(as_json=options.json)
    if options.command == "completion":
        return show.completion(options.shell)
    if options.profile_command == "list":
        return show.profile_list()
    if options.profile_command == "show":
        return show.profile_show(options.name, resolved=options.resolved)
    if options.profile_command == "new":
        return show.profile_new(options)
    if options.profile_command == "schema":
        return show.profile_schema(path_only=options.path)
    return show.profile_check(options.names)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    first = arguments[0] if arguments else ""
    wanted = first if first in _COMMANDS else ""
    before = first.startswith("-h") or first.partition("=")[0] in _BEFORE_COMMANDS  # -hx is -h with too much
    if first and not wanted and not before:
        from torbox.cli import commands, mistakes

        raise mistakes.no_command(arguments, _COMMANDS, commands.where_options_stand())
    return parser(wanted).parse_args(list(arguments))


def parser(only: str = "") -> argparse.ArgumentParser:
    """All commands and options; torbox(1) and the shells' completions follow from it.

    `only` names the one command that is to be had, since each costs a start 0.3 to 1 ms.
    """
    parser = _Parser(
        prog="torbox",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"torbox {__version__}")
    commands = parser.add_subparsers(prog=parser.prog, dest="command", metavar="COMMAND")
    for name, add in _COMMANDS.items():
        if only in ("", name):
            add(commands)
    return parser


def _add_run(commands: _Commands) -> None:
    run = commands.add_parser("run", help="run a program in a sandbox")
    _add_sandbox_options(run, default_profile="default")
    _add_verify_option(run)
    _add_capture_option(run)
    _add_dry_run_options(run)
    run.add_argument(
        "argv", nargs=argparse.REMAINDER, metavar="[--] COMMAND [ARG…]", help="the program and its arguments"
    )


def _add_shell(commands: _Commands) -> None:
    shell = commands.add_parser("shell", help="open a shell in a sandbox")
    _add_sandbox_options(shell, default_profile="shell")
    _add_verify_option(shell)
    _add_capture_option(shell)
    _add_dry_run_options(shell)
    shell.set_defaults(argv=[])


def _add_verify(commands: _Commands) -> None:
    verify = commands.add_parser(
        "verify", help="see whether a sandbox holds: probes try to get out of a real one"
    )
    _add_sandbox_options(verify, default_profile="default")
    verify.add_argument("--json", action="store_true", help="print the probes as JSON")


def _add_doctor(commands: _Commands) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="see whether this machine can run torbox",
        description="See whether this machine can run torbox. The exit code is 0 if sandboxes can be made,"
        " 125 if not (FAIL). What is marked no is of use and not needed: to have a network, for one.",
    )
    doctor.add_argument("--json", action="store_true", help="print the checks as JSON")


def _add_home(commands: _Commands) -> None:
    home = commands.add_parser("home", help="list or remove homes that are kept")
    home.add_argument("--user", metavar="NAME", help="started as root: whose homes")
    verbs = home.add_subparsers(prog=home.prog, dest="home_command", metavar="VERB", required=True)
    verbs.add_parser("list", help="every kept home: its name, what it holds, who uses it")
    reset = verbs.add_parser("reset", help="remove a kept home with all in it")
    reset.add_argument("names", metavar="HOME", nargs="+")


def _add_completion(commands: _Commands) -> None:
    completion = commands.add_parser("completion", help="print a shell's completion for torbox")
    completion.add_argument("shell", metavar="SHELL", choices=("bash", "fish", "zsh"))


def _add_profile(commands: _Commands) -> None:
    profile = commands.add_parser("profile", help="list, show, write or check profiles")
    verbs = profile.add_subparsers(prog=profile.prog, dest="profile_command", metavar="VERB", required=True)
    verbs.add_parser("list", help="list every profile that can be named")
    show = verbs.add_parser("show", help="show a profile with all that it extends")
    show.add_argument("name", metavar="NAME|FILE")
    show.add_argument(
        "--resolved", action="store_true", help="say of each value which line of which file it is from"
    )
    check = verbs.add_parser("check", help="find every fault of a profile")
    check.add_argument("names", metavar="NAME|FILE", nargs="+")
    new = verbs.add_parser("new", help="write a profile of your own, to be changed")
    new.add_argument("name", metavar="NAME")
    new.add_argument(
        "--from",
        dest="base",
        default="default",
        metavar="NAME|FILE",
        help="the profile that it extends (default: default)",
    )
    new.add_argument("--user", metavar="NAME", help="started as root: the user whose profile it is")
    schema = verbs.add_parser("schema", help="print the JSON Schema of profiles, for editors")
    schema.add_argument("--path", action="store_true", help="print where its file is instead")


_COMMANDS = {
    "run": _add_run,
    "shell": _add_shell,
    "verify": _add_verify,
    "doctor": _add_doctor,
    "home": _add_home,
    "completion": _add_completion,
    "profile": _add_profile,
}


def _add_verify_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--verify", action="store_true", help="first see by quick probes whether such a sandbox holds"
    )


def _add_capture_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pcap",
        default="",
        metavar="FILE",
        help="write every packet that the sandbox sends and gets to this new file, for tcpdump and Wireshark",
    )


def _add_dry_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be run, and in what, and start nothing"
    )
    parser.add_argument("--json", action="store_true", help="with --dry-run: as JSON")


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
    parser.add_argument(
        "--share",
        metavar="PATH[:ro]",
        action="append",
        default=[],
        help="let the program have this file or directory, for writing unless :ro follows; what is in your"
        " home is in the home inside, and the program starts in the current directory if that is shared,"
        " or something in it",
    )
    parser.add_argument(
        "--allow-missing",
        action="append",
        default=[],
        metavar="WHAT",
        help="start without a protection that this machine does not give: " + ", ".join(allowance.WHAT),
    )
    parser.add_argument("--name", metavar="NAME", help="a name for the sandbox, one at a time")
    parser.add_argument("--user", metavar="NAME", help="started as root: the user to run as")
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="store_true", help="say what is done")
    volume.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
