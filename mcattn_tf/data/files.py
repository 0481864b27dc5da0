"""Files of a folder or of a zip archive, by their names."""

import dataclasses
import hashlib
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from mcattn_tf.errors import UserError, reason_of

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
_OUTSIDE = re.compile(r"^/|^[A-Za-z]:|\\|(^|/)\.\.(/|$)")
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,  # a compression that Python does not know
    RuntimeError,  # a member with a password
    UnicodeError,
)


@dataclasses.dataclass(frozen=True)
class Files:
    """A folder, on disk or inside a zip archive, whose files any thread may read.

    Attributes:
        root: path of a folder or of the archive.
        folder: which of its folders, with a slash at its end; empty for `root` itself.
        archive: the archive where `root` is one.
    """

    root: Path
    folder: str = ""
    archive: zipfile.ZipFile | None = None

    def within(self, folder: str) -> "Files":
        """Returns the files of a folder in this one."""
        return dataclasses.replace(self, folder=f"{self.folder}{folder}/")

    def path(self, name: str) -> Path:
        """Returns the path of a file, as messages give it where it lies in an archive."""
        return self.root / f"{self.folder}{name}"

    def __contains__(self, name: str) -> bool:
        """Whether there is a file of this name."""
        if self.archive is None:
            return self.path(name).is_file()
        return f"{self.folder}{name}" in self.archive.NameToInfo

    def names(self) -> np.ndarray:
        """Returns the names (n,), bytes, of what lies in this folder itself; none without it.

        Raises:
            UserError: if the folder may not be read.
        """
        if self.archive is None:
            try:
                found = os.listdir(os.fsencode(self.path("")))
            except (FileNotFoundError, NotADirectoryError):
                found = []
            except OSError as error:
                raise UserError(f"cannot read {self.path('')}: {reason_of(error)}") from None
        else:
            start = len(self.folder)
            inside = (name[start:] for name in self._members())
            found = [name.encode() for name in inside if name and "/" not in name]
        return np.array(found, "S")

    def image_names(self) -> np.ndarray:
        """Returns those of `names` that are of images: neither hidden nor of another ending."""
        names = self.names()
        lower = np.char.lower(names)
        of_images = np.zeros(len(names), bool)
        for ending in IMAGE_ENDINGS:
            of_images |= np.char.endswith(lower, ending.encode())
        return names[of_images & ~np.char.startswith(names, b".")]

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file.

        Raises:
            UserError: if it cannot be read.
        """
        try:
            if self.archive is None:
                return self.path(name).read_bytes()
            return self.archive.read(f"{self.folder}{name}")
        except (*_DAMAGE, KeyError) as error:
            raise UserError(f"cannot read {self.path(name)}: {reason_of(error)}") from None

    def reader(self, names: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
        """Returns what reads files inside a graph.

        Args:
            names: (n,), bytes.

        Returns:
            From an index below n, a scalar int64, to the bytes of that file, a scalar string.
        """
        if self.archive is None:
            folder, tensor = os.fsencode(self.path("")) + b"/", tf.constant(names)
            return lambda index: tf.io.read_file(folder + tf.gather(tensor, index))

        def read(index: tf.Tensor) -> tf.Tensor:
            encoded = tf.numpy_function(
                lambda index: self.read(names[index].decode()), [index], tf.string
            )
            return tf.ensure_shape(encoded, ())

        return read

    def fingerprint(
        self, names: np.ndarray, labels: np.ndarray, attributes: tuple[str, ...]
    ) -> str:
        """Returns a text that changes with the files, their names, their order or their labels.

        Of a file on disk the size and the time of its last change are looked at, of one in an
        archive its size and checksum; where `root` lies does not matter.

        Args:
            names: (n,), bytes.
            labels: of the files.
            attributes: what the labels are called.

        Raises:
            UserError: if a file is no longer there.
        """
        digest = hashlib.sha256(repr((attributes, labels.dtype.str, labels.shape)).encode())
        digest.update(np.ascontiguousarray(labels))
        for name, state in zip(names.tolist(), self._states(names), strict=True):
            digest.update(b"%b\0%d %d\n" % (name, *state))
        return digest.hexdigest()

    def _states(self, names: np.ndarray) -> list[tuple[int, int]]:
        if self.archive is not None:
            members = (
                self.archive.getinfo(f"{self.folder}{name.decode()}") for name in names.tolist()
            )
            return [(member.file_size, member.CRC) for member in members]
        folder = os.fsencode(self.path("")) + b"/"
        try:
            found = [os.stat(folder + name) for name in names.tolist()]
        except OSError as error:
            path = os.fsdecode(error.filename)
            raise UserError(f"cannot read {path}: {reason_of(error)}") from None
        return [(state.st_size, state.st_mtime_ns) for state in found]

    def _members(self) -> list[str]:
        return [name for name in self.archive.NameToInfo if name.startswith(self.folder)]


def require_there(data_dir: Path) -> None:
    """Refuses a `--data_dir` that does not exist.

    Args:
        data_dir: as the flag or the settings of a run name it.

    Raises:
        UserError: if it does not.
    """
    if not data_dir.exists():
        raise UserError(
            f"--data_dir {data_dir} does not exist; name the place where the data are now"
        )


def open_files(root: Path) -> Files:
    """Opens a folder or a zip archive.

    Args:
        root: its path.

    Raises:
        UserError: if it is neither, if the archive is damaged, or if one of its members is named
            as if it lay outside of it.
    """
    if root.is_dir():
        return Files(root)
    try:
        # Of a file that it did not open itself, ZipFile does not count the readers: the count is
        # not safe between threads.
        archive = zipfile.ZipFile(root.open("rb"))
    except _DAMAGE as error:
        raise UserError(
            f"cannot read {root}: expected a folder or a zip archive. Received: {reason_of(error)}"
        ) from None
    for member in archive.infolist():
        if _OUTSIDE.search(member.orig_filename):
            raise UserError(
                f"{root} has a member outside of the archive's own folder, "
                f"{member.orig_filename!r}; make the archive anew without it"
            )
    return Files(root, archive=archive)
