"""A folder of results that a later call may use again: what it wrote is replaced, nothing else."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from clclip.core.digest import file_sha256
from clclip.core.errors import InputError
from clclip.core.files import make_folder, read_json, write_json
from clclip.model.card import is_model

WRITTEN = ".clclip-detect.json"  # in the folder: our files, each with the digests it may have


class ResultsFolder:
    """Files of one call, written aside and moved into a folder all at once.

    Files that an earlier call wrote there are deleted, as labels and drawings of other images would
    pass for this call's. A file that is not as a call left it (corrected labels, say) is somebody's
    work: where it would have to give way nothing is written.

    Args:
        folder: where the results go.
        given: images of this call, which stay even if an earlier call wrote them.
    """

    def __init__(self, folder: Path, given: Sequence[Path]) -> None:
        self.folder, self._given = folder, {path.resolve() for path in given}

    def check(self, names: Sequence[str] = ()) -> None:
        """See to it that files which would give way are as an earlier call left them.

        Args:
            names: files to be written, relative to the folder.

        Raises:
            InputError: if one is not, or the folder is a model.
        """
        if is_model(self.folder):
            raise InputError("a model folder", self.folder, "a folder of its own for the results")
        self._replaced(names)

    @contextlib.contextmanager
    def staged(self) -> Iterator[Path]:
        """Yield a folder inside this one whose files move here once all are written."""
        there = self.folder.is_dir()
        make_folder(self.folder)
        work = Path(tempfile.mkdtemp(dir=self.folder, prefix=".tmp-"))
        try:
            yield work
            paths = sorted(p for p in work.rglob("*") if p.is_file())
            written = {path.relative_to(work).as_posix(): path for path in paths}
            earlier = self._replaced(list(written))
            digests = {name: [file_sha256(path)] for name, path in written.items()}
            both = {name: earlier.get(name, []) + own for name, own in digests.items()}
            write_json(self.folder / WRITTEN, earlier | both)  # should this be cut short
            for name, path in written.items():
                make_folder((self.folder / name).parent)
                path.replace(self.folder / name)
            for name in sorted(set(earlier) - set(written)):
                (self.folder / name).unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # not empty
                    (self.folder / name).parent.rmdir()
            write_json(self.folder / WRITTEN, digests)
        finally:
            shutil.rmtree(work, ignore_errors=True)
            if not there and not any(self.folder.iterdir()):
                self.folder.rmdir()

    def _replaced(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return the files that give way, with their digests, if all are as a call left them."""
        earlier = self._earlier()
        home = {name: self.folder / name for name in {*names, *earlier}}
        there = {name: path for name, path in home.items() if path.is_file()}
        digests = {name: file_sha256(path) for name, path in sorted(there.items())}
        foreign = [name for name, own in digests.items() if own not in earlier.get(name, [])]
        if foreign:
            more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            what = f"{foreign[0]}{more} not as clclip wrote it, which would be replaced"
            raise InputError(what, self.folder, "another folder, or those files moved elsewhere")
        return {name: earlier[name] for name in digests}

    def _earlier(self) -> dict[str, list[str]]:
        """Return the files of earlier calls inside the folder, but for images of this call."""
        try:
            listed = read_json(self.folder / WRITTEN)
        except InputError:  # none there, or cut short: then nothing is known to be ours
            return {}
        if not isinstance(listed, dict):
            return {}
        home = self.folder.resolve()
        places = {name: (self.folder / name).resolve() for name in listed}
        return {
            name: [str(one) for one in listed[name]]
            for name, place in places.items()
            if home in place.parents and place not in self._given and isinstance(listed[name], list)
        }
