"""The training text: the standard library of the Python that runs this script.

Every machine that can run Saguaro has it, so nothing is downloaded. About 4 % of the files are held
out by a hash of their relative path: the same files on every machine, whatever their order on disk.
"""

import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path

HELD_OUT_SHARE = 0.04
LARGEST_FILE = 500_000  # bytes; what is larger is a data table, not code
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "cjkencodings"}
SKIPPED_MARKS = ("decoding_table = (", "decoding_map = ", "lib2to3/tests/data", "bad_coding", "badsyntax")


@dataclass(frozen=True)
class Document:
    """One source file: its path below the library's root, and its text."""

    path: str
    text: str

    @property
    def held_out(self) -> bool:
        """Whether this file is kept away from training."""
        digest = hashlib.sha256(self.path.encode()).digest()
        return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def read_documents(root: Path | None = None) -> list[Document]:
    """All usable Python files below `root` (default: the standard library), sorted by path."""
    root = root or Path(sysconfig.get_paths()["stdlib"])
    documents = []
    for file in sorted(root.rglob("*.py")):
        relative = file.relative_to(root)
        if SKIPPED_FOLDERS & set(relative.parts) or file.stat().st_size > LARGEST_FILE:
            continue
        try:
            text = file.read_text(encoding="utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError:
            continue  # a test of other encodings
        path = relative.as_posix()
        if len(text) < 100 or any(mark in path or mark in text for mark in SKIPPED_MARKS):
            continue
        documents.append(Document(path, text))
    return documents
