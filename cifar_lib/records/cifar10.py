"""Where CIFAR-10 lies: looked for, downloaded, unpacked and checked; and a generated stand-in where it cannot be had.

Dataset: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, in its binary version: a batch file
is 10,000 records of one label byte and 3,072 pixel bytes (red, green and blue planes of 32×32, row by row).
"""

import gzip
import hashlib
import http.client
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cifar_lib import ROOT, InputError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"
IMAGES_PER_FILE = 10_000
RECORD_BYTES = 1 + 3 * 32 * 32
SHA256 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
FILES = {"train": [name for name in SHA256 if name.startswith("data")], "test": ["test_batch.bin"]}
STAND_IN = "stand-in"
DAMAGED = (tarfile.TarError, EOFError, KeyError, zlib.error, gzip.BadGzipFile)  # what reading a damaged archive raises


def read(split: str) -> tuple[np.ndarray, np.ndarray, dict]:
    """The images (uint8 N×3×32×32) and labels (int64 N) of "train" or "test", in the official order, and their origin.

    The origin is what a record says of its data: {"dataset": "CIFAR-10" or "stand-in", "sha256": {file name: hash}}. Raises
    InputError where a file is damaged.
    """
    folder = find()
    contents = {name: _read_checked(folder / name) for name in FILES[split]}
    rows = np.concatenate([np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES) for content in contents.values()])
    origin = {
        "dataset": STAND_IN if _is_stand_in(folder) else "CIFAR-10",
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    return rows[:, 1:].reshape(-1, 3, 32, 32).copy(), rows[:, 0].astype(np.int64), origin


@cache
def find() -> Path:
    """The folder with the six batch files: from $CIFAR10_DIR, else data/, else downloaded, else the stand-in.

    $CIFAR10_DIR may name the archive, the folder it unpacks to, or a folder that holds either; the word "stand-in"
    asks for the generated data. Raises InputError where what is named holds no batches.
    """
    named, data = os.environ.get("CIFAR10_DIR"), ROOT / "data"
    if named == STAND_IN:
        return _stand_in(data / STAND_IN)
    if named:
        place = Path(named).expanduser()
        if not place.exists():
            raise InputError(f"CIFAR10_DIR is {named}, which does not exist: name the archive {ARCHIVE} or its folder.")
        folder = _batches_in(place)
        if not folder:
            raise InputError(f"CIFAR10_DIR is {named}, which holds neither {ARCHIVE} nor the six batch files.")
        return folder
    if folder := _batches_in(data):
        return folder
    try:
        return _unpack(download(os.environ.get("CIFAR10_URL") or URL, data / ARCHIVE, _fault_of))
    except urllib.error.URLError as error:
        print(f"CIFAR-10 cannot be downloaded ({error.reason}): going on with generated stand-in images.", file=sys.stderr)
        return _stand_in(data / STAND_IN)


def name_for_child() -> str:
    """What CIFAR10_DIR must be for a child process to find what this one found, without looking again."""
    folder = find()
    return STAND_IN if _is_stand_in(folder) else str(folder)


def download(url: str, target: Path, fault_of: Callable[[Path], str | None] = lambda path: None) -> Path:
    """Fetch `url` to `target` with a progress bar; what an interrupted try left in `target`.part is kept and resumed.

    Raises urllib.error.URLError where the server cannot be reached, breaks off, or sends what `fault_of` finds a fault in, and
    InputError where the disk is full, say. `target` appears only when whole.
    """
    part = target.with_name(target.name + ".part")
    resumed = part.exists()
    with _writing(target.parent):
        try:
            total = _fetch(url, part)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not resumed:  # 416: nothing beyond what we have, so the part is not of this file
                raise
            part.unlink()
            return download(url, target, fault_of)
        if total and part.stat().st_size != total:
            raise urllib.error.URLError(f"the server broke off at {part.stat().st_size:,} of {total:,} bytes")
        if fault := fault_of(part):  # a page that asks for a login, say, or half of the file from a server that told no length
            part.unlink()
            if resumed:  # perhaps its beginning was of another file
                return download(url, target, fault_of)
            raise urllib.error.URLError(f"what the server sent is not the archive: {fault}")
        part.replace(target)
    return target


def _fetch(url: str, part: Path) -> int:
    """Append to `part` what the server has beyond it, or start again where it cannot; return the whole length or 0."""
    have = part.stat().st_size if part.exists() else 0
    with _receiving():
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        response = urllib.request.urlopen(request, timeout=10)
    with response:
        have = have if response.status == 206 else 0
        with _receiving():
            total = have + int(length) if (length := response.headers.get("Content-Length")) else 0
        bar = tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc=part.stem)
        try:
            with bar, part.open("ab" if have else "wb", buffering=0) as file:
                while chunk := _chunk(response):
                    while chunk:  # of which a disk that is nearly full takes a part
                        written = file.write(chunk)
                        bar.update(written)
                        chunk = chunk[written:]
        except urllib.error.URLError:
            raise
        except OSError:  # it could not be written: what there is would only fill the disk
            part.unlink(missing_ok=True)
            raise
    return total


def _chunk(response: http.client.HTTPResponse) -> bytes:
    with _receiving():
        return response.read(1 << 18)


@contextmanager
def _receiving() -> Iterator[None]:
    """Make whatever goes wrong with a server an urllib.error.URLError."""
    try:
        yield
    except urllib.error.URLError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:  # an address or a header may be none
        raise urllib.error.URLError(error) from error


def _fault_of(archive: Path) -> str | None:
    """What is wrong with an archive that was fetched; nothing where every batch file in it is the official one."""
    found = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and (name := Path(member.name).name) in SHA256:
                    found[name] = hashlib.file_digest(tar.extractfile(member), "sha256").hexdigest()
    except DAMAGED as error:
        return f"it cannot be unpacked ({type(error).__name__})"
    wrong = sorted(name for name, expected in SHA256.items() if found.get(name) != expected)
    return f"{', '.join(wrong)} {'are' if wrong[1:] else 'is'} missing or not the official one" if wrong else None


def _batches_in(place: Path) -> Path | None:
    if place.is_file():
        return _unpack(place)
    for folder in (place, place / FOLDER):
        there = [name for name in SHA256 if (folder / name).is_file()]
        if len(there) == len(SHA256):
            return folder
        if there and not (place / ARCHIVE).is_file():
            missing = ", ".join(sorted(set(SHA256) - set(there)))
            raise InputError(f"{folder} lacks {missing}: unpack {ARCHIVE} there again.")
    return _unpack(place / ARCHIVE) if (place / ARCHIVE).is_file() else None


def _unpack(archive: Path) -> Path:
    """Unpack the batch files under data/, once for each archive; nothing is written outside that folder."""
    try:
        archive.open("rb").close()
    except OSError as error:
        raise InputError(f"{archive} cannot be read ({error.strerror}): set CIFAR10_DIR to where CIFAR-10 lies.") from error
    stat = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
    target = ROOT / "data" / "unpacked" / key
    if _is_complete(target):
        return target
    with _writing(target.parent), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        try:
            with tarfile.open(archive) as tar:
                members = [tarfile.data_filter(member, scratch) for member in tar]
                for member in members:
                    if Path(member.name).name in SHA256:
                        tar.extract(member, scratch, filter="data")
        except tarfile.FilterError as error:
            raise InputError(f"{archive} is refused, because {error}: use the official archive.") from error
        except DAMAGED as error:
            why = type(error).__name__
            raise InputError(f"{archive} cannot be unpacked ({why}), it may be damaged: fetch it again.") from error
        files = {path.name: path for path in Path(scratch).rglob("*.bin")}
        if missing := sorted(set(SHA256) - set(files)):
            raise InputError(f"{archive} lacks {', '.join(missing)}: use the official {ARCHIVE}.")
        ready = Path(scratch) / "ready"
        ready.mkdir()
        for name, path in files.items():
            path.replace(ready / name)
        _move_into_place(ready, target)
    return target


def _read_checked(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): get CIFAR-10 again.") from error
    expected = IMAGES_PER_FILE * RECORD_BYTES
    if len(data) != expected:
        raise InputError(f"{path} has {len(data):,} bytes instead of {expected:,}: delete it and get CIFAR-10 again.")
    if not _is_stand_in(path.parent) and hashlib.sha256(data).hexdigest() != SHA256[path.name]:
        raise InputError(f"{path} is not the official file (its SHA-256 differs): delete it and get CIFAR-10 again.")
    return data


def _stand_in(target: Path) -> Path:
    """Write images of the same format that a network can learn: a coloured pattern for each class, moved, under noise."""
    if _is_complete(target):
        return target
    random = np.random.default_rng(0)
    patterns = random.uniform(40, 215, (10, 3, 4, 4)).repeat(8, axis=2).repeat(8, axis=3)
    with _writing(target.parent), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        ready = Path(scratch) / "ready"
        ready.mkdir()
        for name in tqdm(SHA256, desc="generating stand-in images"):
            labels = random.integers(10, size=IMAGES_PER_FILE)
            shifts = random.integers(-6, 7, (IMAGES_PER_FILE, 2))
            noise = random.normal(0, 60, (IMAGES_PER_FILE, 3, 32, 32))
            clean = np.stack([np.roll(patterns[label], shift, (1, 2)) for label, shift in zip(labels, shifts)])
            pixels = np.clip(clean + noise, 0, 255).astype(np.uint8).reshape(IMAGES_PER_FILE, -1)
            (ready / name).write_bytes(np.concatenate([labels.astype(np.uint8)[:, None], pixels], axis=1).tobytes())
        _move_into_place(ready, target)
    return target


def _is_stand_in(folder: Path) -> bool:
    """Whether it is the folder of the generated images, and not one that a user named so."""
    return folder == ROOT / "data" / STAND_IN


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in SHA256)


def _move_into_place(ready: Path, target: Path) -> None:
    if target.is_dir() and not _is_complete(target):  # a file of it was deleted
        shutil.rmtree(target)
    try:
        ready.rename(target)
    except OSError:  # another process was faster
        if not _is_complete(target):
            raise


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Make `folder` for what is written in it, and the system's reason an InputError where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except urllib.error.URLError:  # which is an OSError, too
        raise
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror or error}): make that possible, or set CIFAR10_DIR to "
                         "where CIFAR-10 lies.") from error
