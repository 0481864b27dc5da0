"""Files of a folder or of a zip archive, by their names."""

import dataclasses
import hashlib
import os
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import tensorflow as tf

from mcattn_tf.data.images import SIGNATURES
from mcattn_tf.errors import UserError, reason_of

# Files with other endings are looked into.
IMAGE_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png")
_OUTSIDE = re.compile(r"^/|^[A-Za-z]:|\\|(^|/)\.\.(/|$)")
# An unknown compression is a NotImplementedError, a member with a password a RuntimeError.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, UnicodeError),
    *(NotImplementedError, RuntimeError),
)


@dataclasses.dataclass(frozen=True)
class Files:
    """A folder, on disk or inside a zip archive, whose files any thread may read.

    Attributes:
        root: Path of a folder or of the archive.
        folder: One of its folders, with a slash at its end; empty for `root` itself.
        archive: The archive where `root` is one.
    """

    root: Path
    folder: str = ""
    archive: zipfile.ZipFile | None = None

    def within(self, folder: str) -> "Files":
        """Returns the files of a folder in this one."""
        return dataclasses.replace(self, folder=f"{self.folder}{folder}/")

    def path(self, name: str) -> Path:
        """Returns the path of a file, in an archive the one that messages give."""
        return self.root / f"{self.folder}{name}"

    def __contains__(self, name: str) -> bool:
        """Whether there is a file of this name."""
        if self.archive is None:
            return self.path(name).is_file()
        return f"{self.folder}{name}" in self.archive.NameToInfo

    def names(self) -> list[bytes]:
        """Returns the names of the folder's own files and folders; none where it is not there."""
        if self.archive is None:
            try:
                return os.listdir(os.fsencode(self.path("")))
            except (FileNotFoundError, NotADirectoryError):
                return []
            except OSError as error:
                raise UserError(f"cannot read {self.path('')}: {reason_of(error)}") from None
        members = (name for name in self.archive.NameToInfo if name.startswith(self.folder))
        inside = (name.removeprefix(self.folder) for name in members)
        return [name.encode() for name in inside if name and "/" not in name]

    def image_names(self) -> np.ndarray:
        """Returns the names (n,), bytes, of the images that are not hidden."""
        images = [name for name in self.names() if self.is_image(os.fsdecode(name))]
        return np.array(images, "S")

    def is_image(self, name: str) -> bool:
        """Whether a file is an image that is not hidden, by its ending or else by its first bytes.

        The decoder looks at bytes alone: a JPEG may be called `.webp`.
        """
        if name.rsplit("/", 1)[-1].startswith("."):
            return False
        if name.lower().endswith(IMAGE_ENDINGS):
            return True
        try:
            with self._open(name) as file:
                return file.read(8).startswith(SIGNATURES)
        except (*_DAMAGE, KeyError):
            return False

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file, or raises a UserError that names it."""
        try:
            with self._open(name) as file:
                return file.read()
        except (*_DAMAGE, KeyError) as error:
            raise UserError(f"cannot read {self.path(name)}: {reason_of(error)}") from None

    def _open(self, name: str) -> IO[bytes]:
        if self.archive is None:
            return self.path(name).open("rb")
        return self.archive.open(f"{self.folder}{name}")

    def reader(self, names: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
        """Returns a graph function from an index below n to the bytes of a file of `names` (n,)."""
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
        """Returns a text that changes with the files `names` (n,), bytes, or with their labels.

        It is made of size and modification time, in an archive of size and checksum. The place of
        `root` does not matter.
        """
        digest = hashlib.sha256(repr((attributes, labels.dtype.str, labels.shape)).encode())
        digest.update(np.ascontiguousarray(labels))
        folder = os.fsencode(self.path("")) + b"/"
        for name in names.tolist():
            if self.archive is not None:
                member = self.archive.getinfo(f"{self.folder}{name.decode()}")
                state = member.file_size, member.CRC
            else:
                try:
                    status = os.stat(folder + name)
                except OSError as error:
                    path = os.fsdecode(error.filename)
                    raise UserError(f"cannot read {path}: {reason_of(error)}") from None
                state = status.st_size, status.st_mtime_ns
            digest.update(b"%b\0%d %d\n" % (name, *state))
        return digest.hexdigest()


def kinds_of(names: Iterable[str]) -> str:
    """Returns how many files there are of each ending, such as `3 .webp, 1 .txt`."""

    def kind(name: str) -> str:
        path = PurePosixPath(name)
        hidden = any(part.startswith(".") for part in path.parts)
        return "hidden" if hidden else path.suffix.lower() or "without ending"

    counts = Counter(map(kind, names))
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


def report_unused(place: Path, names: Iterable[str | bytes]) -> None:
    """Prints how many files of which endings in a folder are not used, and the first of them."""
    if unused := sorted(map(os.fsdecode, names)):
        print(f"not used in {place}: {kinds_of(unused)} (such as {unused[0]!r})")


def require_there(data_dir: Path) -> None:
    """Raises a UserError for a `--data_dir` that does not exist."""
    if not data_dir.exists():
        raise UserError(
            f"--data_dir {data_dir} does not exist; name the place where the data are now"
        )


def open_files(root: Path) -> Files:
    """Opens a folder or zip archive; a UserError where it is neither or a member leads outside."""
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
