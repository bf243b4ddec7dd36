"""A process that has imported the libraries, and forks for each command: imports take most of a short command's time.

Not a test file. It has imported this checkout's harness too; a fork whose command uses another one forgets it.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import types
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

LIBRARIES = (
    "torch", "numpy", "pandas", "pydantic", "pyarrow", "scipy.stats", "rich.console", "rich.progress", "ruamel.yaml",
    "click", "safetensors.torch", "tabulate", "filelock", "psutil", "platformdirs", "constriction",
)  # fmt: skip
ROOT, PACKAGES = str(Path(__file__).resolve().parents[1]), ("harness", "lm_models", "lm_kernels")
# What `harness run` and its worker import. Not their main modules, which are run.
OURS = ("harness.api.suites", "harness.suite", "harness.runs", "harness.report", "harness.worker.execute")
# In the place of `python`: hands its streams over, and ends as the command does.
CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(call)
    sys.exit(server.recv(1)[0])
"""


@cache
def address() -> str:
    """Start the process that forks, once per process of the tests, and return its socket. It ends with its input."""
    process = subprocess.Popen([sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(process.communicate)
    assert process.stdout
    return process.stdout.readline().decode().rstrip()


def write_python(path: Path) -> None:
    """Write an executable that runs Python's `-m`, `-c` and `-` in a fork."""
    path.write_text(CLIENT.format(python=sys.executable, address=address()), encoding="utf-8")
    path.chmod(0o755)


def serve(path: str) -> None:
    """Fork for each client until the input ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print(path, flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
        while select.select([0, listener], [], [])[0] == [listener]:
            client, _ = listener.accept()
            if os.fork() == 0:
                answer(client)
            client.close()


def answer(client: socket.socket) -> None:
    """Run a client's command in one more fork, which may end in any way, send its status and end the process."""
    size, streams, _, _ = socket.recv_fds(client, 4, 3)
    call = json.loads(client.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (pid := os.fork()) == 0:
        client.close()
        os._exit(run(streams, *call))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    client.send(bytes([status if status >= 0 else 128 - status]))
    os._exit(0)


def run(streams: list[int], arguments: list[str], folder: str, environment: dict[str, str]) -> int:
    """Run a command with its own streams, folder and environment, and return its status."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    status = 0
    try:
        interpret(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
    return status


def interpret(arguments: list[str]) -> None:
    sys.executable, *rest = arguments  # what it starts is forked too
    path = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if ROOT not in path:
        for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
            del sys.modules[name]
    sys.path[:0] = path
    if rest[0] == "-P":
        rest.pop(0)
    else:
        sys.path.insert(0, "")
    kind, *sys.argv = rest
    if kind == "-m":
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        return
    assert kind in ("-", "-c"), kind
    program = sys.stdin.read() if kind == "-" else sys.argv.pop(0)
    sys.argv.insert(0, kind)
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    exec(compile(program, "<program>", "exec"), main.__dict__)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    for library in (*LIBRARIES, *OURS):
        with suppress(ModuleNotFoundError):
            import_module(library)
    own = tempfile.mkdtemp()  # TemporaryDirectory would be removed by each fork that ends
    serve(f"{own}/socket")
    shutil.rmtree(own)
