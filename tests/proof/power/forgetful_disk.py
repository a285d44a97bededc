"""Records what a program does to the files of a folder, and builds what a power cut may leave of it.

Recorded is in this process: what Python's `open` writes, and `os`'s renames, removals, new folders and syncs. A
recording that missed something is noticed: played back without a power cut, it must give the folder as it is.

A file system promises little about what was not synced. Here it keeps its promises and no more: of a file that was
changed since its last fsync, the old content stays, or a part of the new one, or its length with nothing in it; of the
names that were made, changed or removed in a folder since the folder's last fsync, any may be lost and any may be kept.
"""

from __future__ import annotations

import builtins
import io
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any
from unittest.mock import patch

_MOST_NAMES = 5  # whose changes are lost and kept in every combination


class Kept(Enum):
    """What a power cut leaves of a file's content that was not synced."""

    NOTHING = "the content that was synced"
    LENGTH = "the new length and time, and zeros"
    HALF = "the first half of it"
    ALL = "all of it"


@dataclass(frozen=True)
class Content:
    """A file's bytes, and the time that it says it was changed at."""

    content: bytes = b""
    mtime_ns: int = 0


Tree = dict[str, Content | None]
"""Files by their path below the folder; a folder is None. The folder itself is `.`."""


@dataclass
class _File:
    now: Content
    synced: Content | None
    """None: it was never synced."""

    @property
    def is_synced(self) -> bool:
        return self.now == self.synced


@dataclass
class _Names:
    """The names in one folder: as they are, as the disk surely has them, and the changes between both, in order."""

    now: dict[str, int | None] = field(default_factory=dict)
    """Number of the file; None is a folder."""
    synced: dict[str, int | None] = field(default_factory=dict)
    changes: list[tuple[tuple[str, int | None, bool], ...]] = field(default_factory=list)
    """Each of them name, file and whether the name is there afterwards; those of one change go together."""

    def change(self, *names: tuple[str, int | None, bool]) -> None:
        self.changes.append(names)
        _apply(self.now, names)

    def sync(self) -> None:
        self.synced, self.changes = dict(self.now), []

    def after_a_cut(self) -> Iterator[dict[str, int | None]]:
        """What may be left: every combination of the changes, or, of many, each beginning and each without one."""
        count = len(self.changes)
        choices: Iterator[tuple[bool, ...]] = itertools.product((True, False), repeat=count)
        if count > _MOST_NAMES:
            begun = (tuple(number < end for number in range(count)) for end in range(count + 1))
            without = (tuple(number != one for number in range(count)) for one in range(count))
            only = (tuple(number == one for number in range(count)) for one in range(count))
            choices = itertools.chain(begun, without, only)
        for kept in choices:
            names = dict(self.synced)
            for change in itertools.compress(self.changes, kept):
                _apply(names, change)
            yield names


def _apply(names: dict[str, int | None], change: tuple[tuple[str, int | None, bool], ...]) -> None:
    for name, file, is_there in change:
        if is_there:
            names[name] = file
        else:
            names.pop(name, None)


class Disk:
    """The files below a folder, and how much of them is synced."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[_File] = []
        self.folders: dict[str, _Names] = {".": _Names()}
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            number = None
            if path.is_dir():
                self.folders[str(path.relative_to(root))] = _Names()
            else:
                content = _content_of(path)
                self.files.append(_File(content, content))
                number = len(self.files) - 1
            self._names_around(path)[1].now[path.name] = number
        for names in self.folders.values():
            names.sync()

    def place(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def _names_around(self, path: Path) -> tuple[str, _Names]:
        folder = self.place(path.parent)
        return folder, self.folders[folder]

    def number_of(self, path: Path) -> int | None:
        folder = self.folders.get(self.place(path.parent))
        return folder.now.get(path.name) if folder else None

    def make_file(self, path: Path) -> int:
        self.files.append(_File(Content(), None))
        number = len(self.files) - 1
        self._names_around(path)[1].change((path.name, number, True))
        return number

    def make_folder(self, path: Path) -> None:
        self.folders[self.place(path)] = _Names()
        self._names_around(path)[1].change((path.name, None, True))

    def write(self, number: int, content: Content) -> None:
        self.files[number].now = content

    def sync_file(self, number: int) -> None:
        self.files[number].synced = self.files[number].now

    def sync_folder(self, path: Path) -> None:
        self.folders[self.place(path)].sync()

    def rename(self, path: Path, to: Path) -> None:
        number, here, there = self.number_of(path), self._names_around(path)[1], self._names_around(to)[1]
        assert number is not None, "no folder is renamed"
        if here is there:
            here.change((path.name, number, False), (to.name, number, True))
        else:
            there.change((to.name, number, True))
            here.change((path.name, number, False))

    def remove(self, path: Path) -> None:
        self._names_around(path)[1].change((path.name, None, False))
        self.folders.pop(self.place(path), None)

    def tree(self) -> Tree:
        """The files as they are while there is power."""
        return self._tree({folder: names.now for folder, names in self.folders.items()}, {})

    def after_a_cut(self) -> Iterator[Tree]:
        """What a power cut may leave now.

        Names are lost in one folder at a time, in the others all or none; content in one file at a time, or in all.
        """
        whole = {folder: names.now for folder, names in self.folders.items()}
        least = {folder: names.synced for folder, names in self.folders.items()}
        contents = list(self._contents_after_a_cut())
        for folder, names in self.folders.items():
            for left in names.after_a_cut():
                for others in (whole, least):
                    for files in contents:
                        yield self._tree({**others, folder: left}, files)

    def _contents_after_a_cut(self) -> Iterator[Mapping[int, Kept]]:
        unsynced = [number for number, file in enumerate(self.files) if not file.is_synced]
        for kept in Kept:
            yield dict.fromkeys(unsynced, kept)
            for number in unsynced if len(unsynced) > 1 else ():
                yield {number: kept}

    def _tree(self, folders: Mapping[str, Mapping[str, int | None]], kept: Mapping[int, Kept]) -> Tree:
        found: Tree = {}

        def walk(folder: str) -> None:
            found[folder] = None
            for name, number in folders.get(folder, {}).items():
                path = name if folder == "." else f"{folder}/{name}"
                if number is None:
                    walk(path)
                else:
                    found[path] = _left_of(self.files[number], kept.get(number, Kept.ALL))

        walk(".")
        return found


def _left_of(file: _File, kept: Kept) -> Content:
    if file.is_synced or kept is Kept.ALL:
        return file.now
    if kept is Kept.NOTHING:
        return file.synced or Content()
    content = file.now.content
    if kept is Kept.HALF:
        return Content(content[: len(content) // 2], file.now.mtime_ns)
    return Content(bytes(len(content)), file.now.mtime_ns)


# --- recording ---------------------------------------------------------------------------------------------------

Step = tuple[str, Callable[[Disk], object]]
"""What was done, in words, and how a disk does it."""


@dataclass
class Recording:
    """What was done below a folder, step by step, from the state at the beginning on."""

    begin: Disk
    steps: list[Step] = field(default_factory=list)

    def mark(self, words: str) -> None:
        """Note something that no file has seen."""
        self.steps.append((words, lambda _: None))

    def disks(self) -> Iterator[tuple[str, Disk]]:
        """The disk after each step."""
        disk = deepcopy(self.begin)
        yield "nothing was done", disk
        for words, do in self.steps:
            do(disk)
            yield words, disk

    def states(self, counts: Callable[[str], bool] = lambda _: True) -> Iterator[tuple[str, Tree]]:
        """What a power cut at each moment may leave, and that moment; once where the files that count are the same.

        Files that are being written never count.
        """
        seen = set()
        for moment, disk in self.disks():
            for tree in disk.after_a_cut():
                names = [name for name in tree if counts(name) and not name.endswith(".partial")]
                state = frozenset((name, tree[name]) for name in names)
                if state not in seen:
                    seen.add(state)
                    yield moment, tree


@contextmanager
def recorded(root: Path, *, syncs: bool = True) -> Iterator[Recording]:
    """Record what this process does below `root`; without `syncs` as if it never synced anything."""
    recording = Recording(Disk(root))
    live = deepcopy(recording.begin)

    def step(words: str, do: Callable[[Disk], object]) -> None:
        do(live)
        recording.steps.append((words, do))

    def inside(path: object) -> Path | None:
        found = Path(os.path.abspath(os.fspath(path)))  # type: ignore[call-overload]
        return found if found.is_relative_to(root) and found != root else None

    def at(path: object, folder: int | None) -> Path | None:
        return inside(os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path) if folder is not None else path)  # type: ignore[call-overload]

    class RecordedFile(io.FileIO):
        """A file that is written: each write is a step."""

        number: int

        def write(self, content: Any, /) -> int:  # noqa: ANN401  a buffer
            done = super().write(content)
            self.note("write")
            return done

        def truncate(self, size: int | None = None, /) -> int:
            done = super().truncate(size)
            self.note("truncate")
            return done

        def note(self, what: str) -> None:
            number, content = self.number, _content_of(Path(f"/proc/self/fd/{self.fileno()}"))
            step(f"{what} {Path(str(self.name)).name}", lambda disk: disk.write(number, content))

    def open_(file: Any, mode: str = "r", *options: Any, **named: Any) -> Any:  # noqa: ANN401  as the original
        path = inside(file) if isinstance(file, str | os.PathLike) else None
        if path is None or mode in ("r", "rb"):
            return originals["open"](file, mode, *options, **named)
        assert mode in ("ab", "wb"), f"recorded are files of bytes, not {mode!r}"
        number = live.number_of(path)
        raw = RecordedFile(path, mode)
        if number is None:
            step(f"make {path.name}", lambda disk: disk.make_file(path))
            number = len(live.files) - 1
        raw.number = number
        if mode == "wb":
            raw.note("truncate")
        return io.BufferedWriter(raw)

    def fsync(opened: int) -> None:
        originals["fsync"](opened)
        path = Path(os.readlink(f"/proc/self/fd/{opened}"))
        if not syncs or not path.is_relative_to(root):
            return
        if path.is_dir():
            step(f"sync the names of {path.name}", lambda disk: disk.sync_folder(path))
        else:
            number = live.number_of(path)
            assert number is not None
            step(f"sync {path.name}", lambda disk: disk.sync_file(number))

    def rename(path: Any, to: Any, **options: Any) -> None:  # noqa: ANN401  as the original
        originals["replace"](path, to, **options)
        source, target = inside(path), inside(to)
        if source and target:
            step(f"rename {source.name}", lambda disk: disk.rename(source, target))

    def remover(name: str) -> Callable[..., None]:
        def remove(path: Any, *, dir_fd: int | None = None) -> None:  # noqa: ANN401  as the original
            found = at(path, dir_fd)
            originals[name](path, dir_fd=dir_fd)
            if found:
                step(f"remove {found.name}", lambda disk: disk.remove(found))

        return remove

    def mkdir(path: Any, mode: int = 0o777, **options: Any) -> None:  # noqa: ANN401  as the original
        originals["mkdir"](path, mode, **options)
        if found := inside(path):
            step(f"make the folder {found.name}", lambda disk: disk.make_folder(found))

    originals: dict[str, Callable[..., Any]] = {
        "open": io.open, "fsync": os.fsync, "replace": os.replace, "mkdir": os.mkdir,
        "unlink": os.unlink, "remove": os.remove, "rmdir": os.rmdir,
    }  # fmt: skip
    with (
        patch.object(io, "open", open_),
        patch.object(builtins, "open", open_),
        patch.object(os, "fsync", fsync),
        patch.object(os, "replace", rename),
        patch.object(os, "rename", rename),
        patch.object(os, "mkdir", mkdir),
        patch.object(os, "unlink", remover("unlink")),
        patch.object(os, "remove", remover("remove")),
        patch.object(os, "rmdir", remover("rmdir")),
    ):
        yield recording
    assert live.tree() == Disk(root).tree(), "something was done to the folder that the recording does not have"


def restore(root: Path, tree: Tree) -> None:
    """Make the folder what `tree` is."""
    if root.is_dir():
        shutil.rmtree(root)
    if "." in tree:
        root.mkdir()
    for name, content in tree.items():
        path = root / name
        if content is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(content.content)
            os.utime(path, ns=(content.mtime_ns, content.mtime_ns))


def _content_of(path: Path) -> Content:
    return Content(path.read_bytes(), path.stat().st_mtime_ns)
