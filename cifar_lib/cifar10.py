"""Where CIFAR-10 lies: found, downloaded, unpacked and verified; synthetic data where it cannot be had.

Dataset: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, in its binary version: a batch file
is 10,000 records of one label byte and 3,072 pixel bytes (red, green and blue planes of 32×32, row by row).
"""

import gzip
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
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
SYNTHETIC = "synthetic"
TIMEOUT_S, RETRIES = 10, 2  # of the download


class DamagedArchive(InputError):
    """An archive that does not hold the official batch files."""


def read(split: str) -> tuple[np.ndarray, np.ndarray, dict]:
    """The images (uint8 N×3×32×32) and labels (int64 N) of "train" or "test", in the official order, and their origin.

    The origin is what a record says of its data: {"dataset": "CIFAR-10" or "synthetic", "sha256": {file name: hash}}. Raises
    InputError where a file is damaged.
    """
    folder = find()
    contents = {name: _read_verified(folder / name) for name in FILES[split]}
    rows = np.concatenate([np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES) for content in contents.values()])
    origin = {
        "dataset": SYNTHETIC if _is_synthetic(folder) else "CIFAR-10",
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
    }
    return rows[:, 1:].reshape(-1, 3, 32, 32).copy(), rows[:, 0].astype(np.int64), origin


@cache
def find() -> Path:
    """The folder with the six batch files: from $CIFAR10_DIR, else data/, else downloaded, else synthetic.

    $CIFAR10_DIR may name the archive, the folder it unpacks to, or a folder that holds either; the word "synthetic"
    asks for synthetic data. Raises InputError where what is named holds no batches.
    """
    named, data = os.environ.get("CIFAR10_DIR"), ROOT / "data"
    if named == SYNTHETIC:
        return _synthetic(data / SYNTHETIC)
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
        return _unpack(_download(data))
    except DamagedArchive as error:
        (data / ARCHIVE).unlink()
        reason = f"what the server sent is not the archive: {error}"
    except ConnectionError as error:
        reason = error
    print(f"CIFAR-10 cannot be downloaded ({reason}); using synthetic data.", file=sys.stderr)
    return _synthetic(data / SYNTHETIC)


def location() -> str:
    """What CIFAR10_DIR must be for a child process to find what this one found, without looking again."""
    folder = find()
    return SYNTHETIC if _is_synthetic(folder) else str(folder)


def _download(folder: Path) -> Path:
    """The archive, fetched to `folder` with a progress bar. Raises ConnectionError where the server does not give it."""
    import pooch  # here: few processes need it
    import requests

    pooch.get_logger().setLevel("WARNING")
    urls = {ARCHIVE: os.environ.get("CIFAR10_URL") or URL}
    site = pooch.create(folder, "", registry={ARCHIVE: None}, urls=urls, retry_if_failed=RETRIES)
    with _writing(folder):
        try:
            return Path(site.fetch(ARCHIVE, downloader=pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT_S)))
        except (requests.RequestException, ValueError) as error:  # an address may be none
            raise ConnectionError(error) from error


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
        ready = Path(scratch) / "ready"
        ready.mkdir()
        try:
            with tarfile.open(archive) as tar:
                for member in [tarfile.data_filter(member, scratch) for member in tar]:
                    if member.isfile() and (name := Path(member.name).name) in SHA256:
                        with (ready / name).open("wb") as file:
                            shutil.copyfileobj(tar.extractfile(member), file)
        except tarfile.FilterError as error:
            raise DamagedArchive(f"{archive} is refused, because {error}: use the official archive.") from error
        except (tarfile.TarError, EOFError, KeyError, zlib.error, gzip.BadGzipFile) as error:
            why = type(error).__name__
            raise DamagedArchive(f"{archive} cannot be unpacked ({why}), it may be damaged: fetch it again.") from error
        wrong = [name for name, sha256 in SHA256.items() if not _has(ready / name, sha256)]
        if wrong:
            raise DamagedArchive(f"{archive} lacks {', '.join(wrong)} as published: use the official {ARCHIVE}.")
        _move_into_place(ready, target)
    return target


def _read_verified(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): get CIFAR-10 again.") from error
    expected = IMAGES_PER_FILE * RECORD_BYTES
    if len(data) != expected:
        raise InputError(f"{path} has {len(data):,} bytes instead of {expected:,}: delete it and get CIFAR-10 again.")
    if not _is_synthetic(path.parent) and hashlib.sha256(data).hexdigest() != SHA256[path.name]:
        raise InputError(f"{path} is not the official file (its SHA-256 differs): delete it and get CIFAR-10 again.")
    return data


def _synthetic(target: Path) -> Path:
    """Write images of the same format that a network can learn: a coloured pattern for each class, shifted, under noise."""
    if _is_complete(target):
        return target
    random = np.random.default_rng(0)
    patterns = random.uniform(40, 215, (10, 3, 4, 4)).repeat(8, axis=2).repeat(8, axis=3)
    with _writing(target.parent), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        ready = Path(scratch) / "ready"
        ready.mkdir()
        for name in tqdm(SHA256, desc="generating synthetic data"):
            labels = random.integers(10, size=IMAGES_PER_FILE)
            shifts = random.integers(-6, 7, (IMAGES_PER_FILE, 2))
            noise = random.normal(0, 60, (IMAGES_PER_FILE, 3, 32, 32))
            clean = np.stack([np.roll(patterns[label], shift, (1, 2)) for label, shift in zip(labels, shifts)])
            pixels = np.clip(clean + noise, 0, 255).astype(np.uint8).reshape(IMAGES_PER_FILE, -1)
            (ready / name).write_bytes(np.concatenate([labels.astype(np.uint8)[:, None], pixels], axis=1).tobytes())
        _move_into_place(ready, target)
    return target


def _is_synthetic(folder: Path) -> bool:
    """Whether it is the folder of the synthetic data, and not one that a user named so."""
    return folder == ROOT / "data" / SYNTHETIC


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in SHA256)


def _has(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


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
    except ConnectionError:  # which is an OSError, too
        raise
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror or error}): make that possible, or set CIFAR10_DIR to "
                         "where CIFAR-10 lies.") from error
