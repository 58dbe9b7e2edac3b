# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that `--pcap` names: new, the caller's alone, and gone again if nothing came of the sandbox."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from torbox.errors import UsageError
from torbox.netstack.capture import FILE_HEADER

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


@contextlib.contextmanager
def created(path: str) -> Iterator[int]:
    """A descriptor for `CapturingDevice`. UsageError if there is something at `path`, or can be nothing."""
    try:
        descriptor = os.open(path, _NEW, 0o600)
    except FileExistsError:
        raise UsageError(f"--pcap: '{path}' is there already, and nothing is overwritten") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"--pcap: '{path}' cannot be made: {why}") from None
    try:
        os.write(descriptor, FILE_HEADER)
        yield descriptor
    except BaseException:
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_size <= len(FILE_HEADER):
                os.unlink(path)
        raise
    finally:
        os.close(descriptor)
