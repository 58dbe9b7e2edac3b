# SPDX-License-Identifier: GPL-3.0-or-later
"""A program in namespaces of its own with slirp4netns attached: `attach.py MTU COMMAND…`.

slirp4netns joins namespaces that somebody else holds: a shell that waits, and then becomes the program.
"""

from __future__ import annotations

import os
import subprocess
import sys


def main(mtu: str, *command: str) -> int:
    there, say_there = os.pipe()
    wait, go = os.pipe()
    ready, say_ready = os.pipe()
    script = f'echo >&{say_there}; read go <&{wait}; exec {say_there}>&- {wait}<&-; exec "$@"'
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--net", "bash", "-c", script, "-", *command],
        pass_fds=(say_there, wait),
    )
    os.read(there, 1)
    slirp = subprocess.Popen(
        ["slirp4netns", "--configure", f"--mtu={mtu}", f"--ready-fd={say_ready}", str(holder.pid), "tap0"],
        pass_fds=(say_ready,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        os.close(say_ready)
        if os.read(ready, 1) != b"1":
            print("slirp4netns did not start", file=sys.stderr)
            holder.kill()
            return 1
        os.write(go, b"\n")
        return holder.wait()
    finally:
        slirp.terminate()
        slirp.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
