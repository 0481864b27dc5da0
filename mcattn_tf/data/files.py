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

    def image_names(self) -> np.ndarray:
        """Returns the names (n,), bytes, of the images that are not hidden; none without folder."""
        if self.archive is None:
            try:
                names = os.listdir(os.fsencode(self.path("")))
            except (FileNotFoundError, NotADirectoryError):
                names = []
            except OSError as error:
                raise UserError(f"cannot read {self.path('')}: {reason_of(error)}") from None
        else:
            members = (name for name in self.archive.NameToInfo if name.startswith(self.folder))
            inside = (name.removeprefix(self.folder) for name in members)
            names = [name.encode() for name in inside if "/" not in name]
        endings = tuple(ending.encode() for ending in IMAGE_ENDINGS)
        images = [n for n in names if n.lower().endswith(endings) and not n.startswith(b".")]
        return np.array(images, "S")

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file, or raises a UserError that names it."""
        try:
            if self.archive is None:
                return self.path(name).read_bytes()
            return self.archive.read(f"{self.folder}{name}")
        except (*_DAMAGE, KeyError) as error:
            raise UserError(f"cannot read {self.path(name)}: {reason_of(error)}") from None

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
