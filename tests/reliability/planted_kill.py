"""Runs kyolo and kills it, as SIGKILL does, before a call that was chosen: a step, a scored image, or one that writes.

python tests/reliability/planted_kill.py "replace last.npz" 2 train --resume --output run

Calls that write are named `CALL FILE`, for every file of a run: open, write (half of it is done), fsync (of the file,
the second time of its folder) and replace. The number 0 kills nothing. At the end all counts are printed as JSON.
"""

import collections
import io
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kyolo import cli, files


class Killer:
    """Counts calls, and kills this process before the chosen one."""

    def __init__(self, call="step", number=0):
        self.chosen = (call, number)
        self.counts = collections.Counter()

    def is_next(self, call):
        self.counts[call] += 1
        return (call, self.counts[call]) == self.chosen

    def before(self, call):
        if self.is_next(call):
            kill()

    def around(self, owner, name, call):
        """Has a method killed before it begins."""
        original = getattr(owner, name)

        def method(*args, **kwargs):
            self.before(call)
            return original(*args, **kwargs)

        setattr(owner, name, method)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def plant_in_files(killer):
    """In the calls by which `kyolo.files` replaces a file."""
    name = None  # of the file that is written at the moment

    class TornFile(io.FileIO):
        def write(self, data):
            if killer.is_next(f"write {name}"):
                super().write(data[: len(data) // 2])
                kill()
            return super().write(data)

    def open_file(path, mode):
        nonlocal name
        name = Path(path).stem  # without .part
        killer.before(f"open {name}")
        return io.BufferedWriter(TornFile(path, mode))

    def at(function, call):
        def called(*args):
            killer.before(f"{call} {name}")
            return function(*args)

        return called

    files.open = open_file
    files.os = SimpleNamespace(**{**vars(os), "fsync": at(os.fsync, "fsync"), "replace": at(os.replace, "replace")})


def main():
    call, number, *arguments = sys.argv[1:]
    killer = Killer(call, int(number))
    plant_in_files(killer)
    cli.options.import_tensorflow()
    from kyolo.evaluation import coco
    from kyolo.training.recorder import RunRecorder

    killer.around(RunRecorder, "on_train_batch_end", "step")
    killer.around(coco, "coco_results", "evaluate")
    code = cli.main(arguments)
    print(json.dumps(killer.counts))
    return code


if __name__ == "__main__":
    sys.exit(main())
