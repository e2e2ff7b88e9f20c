"""The files of CIFAR-10: found, downloaded, unpacked and verified; synthetic data where they cannot be had.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, in the binary version: a batch file holds 10,000
records of one label byte and 3,072 pixel bytes (a plane each of red, green and blue, 32×32, row by row).
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

    The origin is for the record: {"dataset": "CIFAR-10" or "synthetic", "sha256": {file name: hash}}. Raises InputError where
    a file is damaged.
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
    """The folder with the six batch files: from $CIFAR10_DIR, else data/, else downloaded, else synthetic data.

    $CIFAR10_DIR names the archive, the folder that it unpacks to, or a folder that holds either; the word "synthetic" asks for
    synthetic data. Raises InputError where $CIFAR10_DIR holds none of these.
    """
    given, data = os.environ.get("CIFAR10_DIR"), ROOT / "data"
    if given == SYNTHETIC:
        return _synthetic(data / SYNTHETIC)
    if given:
        folder = _batches_in(Path(given).expanduser())
        if not folder:
            raise InputError(f"CIFAR10_DIR is {given}, but neither {ARCHIVE} nor the six batch files are there.")
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
    """The value of CIFAR10_DIR with which a child process finds the same folder without searching or downloading."""
    folder = find()
    return SYNTHETIC if _is_synthetic(folder) else str(folder)


def _download(folder: Path) -> Path:
    """The archive, downloaded to `folder` with a progress bar. Raises ConnectionError where the server does not send it."""
    import pooch  # here: few processes need it
    import requests

    pooch.get_logger().setLevel("WARNING")
    urls = {ARCHIVE: os.environ.get("CIFAR10_URL") or URL}
    site = pooch.create(folder, "", registry={ARCHIVE: None}, urls=urls, retry_if_failed=RETRIES)
    with _file_errors(folder, "written"):
        try:
            return Path(site.fetch(ARCHIVE, downloader=pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT_S)))
        except (requests.RequestException, ValueError) as error:  # ValueError: the address is not a URL
            raise ConnectionError(error) from error


def _batches_in(place: Path) -> Path | None:
    """The folder of batch files that `place` is, holds, or unpacks to; None where there are none."""
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
    """The folder under data/ with the batch files of `archive`, which is unpacked once."""
    with _file_errors(archive, "read"):
        archive.open("rb").close()
        stat = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
    target = ROOT / "data" / "unpacked" / key
    if _is_complete(target):
        return target
    with _new_folder(target) as folder:
        try:
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.isfile() and (name := Path(member.name).name) in SHA256:
                        with (folder / name).open("wb") as file:
                            shutil.copyfileobj(tar.extractfile(member), file)
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            why = type(error).__name__
            raise DamagedArchive(f"{archive} cannot be unpacked ({why}), it may be damaged: download it again.") from error
        hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        if wrong := [name for name, sha256 in SHA256.items() if hashes.get(name) != sha256]:
            raise DamagedArchive(f"{archive} lacks {', '.join(wrong)} as published: use the official {ARCHIVE}.")
    return target


def _read_verified(path: Path) -> bytes:
    with _file_errors(path, "read"):
        data = path.read_bytes()
    whole = len(data) == IMAGES_PER_FILE * RECORD_BYTES
    if not whole or not (_is_synthetic(path.parent) or hashlib.sha256(data).hexdigest() == SHA256[path.name]):
        raise InputError(f"{path} is damaged (wrong size or SHA-256): delete it and get CIFAR-10 again.")
    return data


def _synthetic(target: Path) -> Path:
    """Images of the same format that a network can learn: a colored pattern for each class, shifted, with noise."""
    if _is_complete(target):
        return target
    random = np.random.default_rng(0)
    patterns = random.uniform(40, 215, (10, 3, 4, 4)).repeat(8, axis=2).repeat(8, axis=3)
    with _new_folder(target) as folder:
        for name in tqdm(SHA256, desc="generating synthetic data"):
            labels = random.integers(10, size=IMAGES_PER_FILE)
            shifts = random.integers(-6, 7, (IMAGES_PER_FILE, 2))
            noise = random.normal(0, 60, (IMAGES_PER_FILE, 3, 32, 32))
            clean = np.stack([np.roll(patterns[label], shift, (1, 2)) for label, shift in zip(labels, shifts)])
            pixels = np.clip(clean + noise, 0, 255).astype(np.uint8).reshape(IMAGES_PER_FILE, -1)
            (folder / name).write_bytes(np.concatenate([labels.astype(np.uint8)[:, None], pixels], axis=1).tobytes())
    return target


def _is_synthetic(folder: Path) -> bool:
    """Whether it is the folder of the synthetic data, not one that a user named "synthetic"."""
    return folder == ROOT / "data" / SYNTHETIC


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in SHA256)


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder, moved to `target` when the block ends without an error and removed otherwise."""
    with _file_errors(target.parent, "written"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            folder = Path(scratch) / "new"
            folder.mkdir()
            yield folder
            if target.is_dir() and not _is_complete(target):  # a file in it was deleted
                shutil.rmtree(target)
            try:
                folder.rename(target)
            except OSError:  # another process was faster
                if not _is_complete(target):
                    raise


@contextmanager
def _file_errors(path: Path, action: str) -> Iterator[None]:
    """Raises InputError in place of the system's error where `path` cannot be read or written."""
    try:
        yield
    except ConnectionError:  # also an OSError
        raise
    except OSError as error:
        reason = error.strerror or error.__cause__ or error  # pooch wraps the system's error
        raise InputError(f"{path} cannot be {action} ({reason}): fix that, or set CIFAR10_DIR to where CIFAR-10 is.") from error
