"""CIFAR-10 is found, downloaded, unpacked and verified; synthetic data take its place and are marked."""

import hashlib
import io
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from conftest import Refused

from cifar_lib import cifar10 as dataset
from cifar_lib.cifar10 import ARCHIVE, FOLDER

IMAGES = 12  # in each of the small batch files


@pytest.fixture
def small(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch files are small ones from here on."""
    monkeypatch.setattr(dataset, "IMAGES_PER_FILE", IMAGES)


@pytest.fixture
def batches(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of six small batch files that pass for the official ones."""
    folder = tmp_path / "elsewhere" / FOLDER
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in dataset.SHA256:
        records = random.integers(256, size=(IMAGES, dataset.RECORD_BYTES), dtype=np.uint8)
        records[:, 0] %= 10
        records.tofile(folder / name)
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in dataset.SHA256}
    monkeypatch.setattr(dataset, "SHA256", hashes)
    return folder


@pytest.fixture
def archive(batches: Path, tmp_path: Path) -> Path:
    """The archive of these files, made like the official one."""
    (tmp_path / "archives").mkdir()
    return pack(batches, tmp_path / "archives" / ARCHIVE)


def pack(folder: Path, path: Path, *others: str) -> Path:
    """Pack the batch files of `folder`, and then files with these names and 4 bytes each."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(folder, FOLDER)
        for name in others:
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
    return path


def dataset_of(split: str) -> str:
    """The name of the dataset that a record would hold."""
    return dataset.read(split)[2]["dataset"]


class Site(ThreadingHTTPServer):
    """Serves `body` on this machine."""

    body = b""
    breaks_at: int | None = None  # the byte after which it hangs up
    failures: list[int | None]  # statuses with which it answers first; None: it hangs up without an answer
    requests = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.failures = []
        self.url = f"http://127.0.0.1:{self.server_port}/{ARCHIVE}"


class Visit(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site = self.server
        site.requests += 1
        if site.failures:
            if status := site.failures.pop(0):
                self.send_error(status)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(site.body)))
        self.end_headers()
        self.wfile.write(site.body[: site.breaks_at])

    def log_message(self, *ignored: object) -> None:
        pass


@pytest.fixture
def site(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server for the archive, where the library looks for it, without retries."""
    with Site() as site:
        monkeypatch.setenv("CIFAR10_URL", site.url)
        monkeypatch.setattr(dataset, "RETRIES", 0)
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.shutdown()
        thread.join()


# ---- reading batch files


def test_official_training_images_come_in_the_official_order(cifar10: Path) -> None:
    images, labels, origin = dataset.read("train")
    assert origin["dataset"] == "CIFAR-10" and np.bincount(labels).tolist() == [5000] * 10
    assert labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert images[0, 0, 0, :3].tolist() == [59, 43, 50]  # red, top left, as published for the first image


def test_read_gives_labels_planes_and_hashes(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    record = (batches / "data_batch_2.bin").read_bytes()[3 * dataset.RECORD_BYTES :]  # its fourth image
    (images, labels, origin), (test_images, _, test_origin) = dataset.read("train"), dataset.read("test")
    assert images.shape == (5 * IMAGES, 3, 32, 32) and test_images.shape == (IMAGES, 3, 32, 32)
    assert labels[IMAGES + 3] == record[0]
    for channel, y, x in [(0, 0, 0), (0, 5, 9), (1, 31, 2), (2, 31, 31)]:
        assert images[IMAGES + 3, channel, y, x] == record[1 + 1024 * channel + 32 * y + x]
    assert origin["sha256"] | test_origin["sha256"] == dataset.SHA256


# ---- where it is looked for


@pytest.mark.parametrize("where", ["the folder", "the folder around it"])
def test_a_named_folder_of_batches_is_used_in_place(batches: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches if where == "the folder" else batches.parent))
    assert dataset.find() == batches


@pytest.mark.parametrize("where", ["the archive", "the folder around it"])
def test_a_named_archive_is_unpacked_once_under_data(
    archive: Path, home: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(archive if where == "the archive" else archive.parent))
    folder = dataset.find()
    assert folder.parent == home / "data" / "unpacked" and dataset_of("test") == "CIFAR-10"
    before = (folder / "test_batch.bin").stat().st_ino
    dataset.find.cache_clear()
    assert (dataset.find() / "test_batch.bin").stat().st_ino == before


def test_a_named_folder_goes_before_data_and_data_before_a_download(
    archive: Path, batches: Path, home: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "data").mkdir()
    shutil.copy(archive, home / "data")
    assert dataset.find().parent == home / "data" / "unpacked"
    shutil.copytree(batches, home / "data" / FOLDER)
    dataset.find.cache_clear()
    assert dataset.find() == home / "data" / FOLDER
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    dataset.find.cache_clear()
    assert dataset.find() == batches and site.requests == 0


def test_a_folder_that_a_user_named_synthetic_is_not_synthetic(
    batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shutil.copytree(batches, tmp_path / "own" / "synthetic")
    monkeypatch.setenv("CIFAR10_DIR", str(own))
    assert dataset_of("test") == "CIFAR-10" and dataset.location() == str(own)


@pytest.mark.parametrize("synthetic", [False, True], ids=["official", "synthetic"])
def test_a_child_process_finds_what_its_parent_found(
    batches: Path, monkeypatch: pytest.MonkeyPatch, synthetic: bool
) -> None:
    monkeypatch.setenv("CIFAR10_DIR", "synthetic" if synthetic else str(batches.parent))
    parent = dataset.find()
    monkeypatch.setenv("CIFAR10_DIR", dataset.location())
    dataset.find.cache_clear()
    assert dataset.find() == parent


# ---- synthetic data


def test_synthetic_data_have_the_format_of_the_dataset_and_are_the_same_each_time(
    small: None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR10_DIR", "synthetic")
    images, labels, origin = dataset.read("train")
    assert images.shape == (5 * IMAGES, 3, 32, 32) and images.dtype == np.uint8 and labels.dtype == np.int64
    assert set(labels.tolist()) == set(range(10)) and origin["dataset"] == "synthetic"
    shutil.rmtree(home / "data" / "synthetic")
    dataset.find.cache_clear()
    assert dataset.read("train")[2] == origin


def test_synthetic_classes_can_be_learned(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "IMAGES_PER_FILE", 200)
    monkeypatch.setenv("CIFAR10_DIR", "synthetic")
    (images, labels, _), (test_images, test_labels, _) = dataset.read("train"), dataset.read("test")
    means = np.stack([images[labels == label].mean(0) for label in range(10)])
    nearest = ((test_images[:, None].astype(float) - means) ** 2).sum((2, 3, 4)).argmin(1)
    assert (nearest == test_labels).mean() > 0.5  # chance is 0.1


# ---- download


def test_the_dataset_is_downloaded_where_it_is_nowhere(archive: Path, home: Path, site: Site) -> None:
    site.body = archive.read_bytes()
    assert dataset_of("test") == "CIFAR-10"
    assert (home / "data" / ARCHIVE).read_bytes() == site.body
    assert sorted(path.name for path in (home / "data").iterdir()) == [ARCHIVE, "unpacked"]


def test_a_failed_download_is_tried_again(archive: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "RETRIES", 2)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    site.failures, site.body = [503, None], archive.read_bytes()
    assert dataset_of("test") == "CIFAR-10" and site.requests == 3


@pytest.mark.parametrize("failure", [404, None, "no server", "no URL"])
def test_synthetic_data_take_over_where_the_server_sends_nothing(
    small: None, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: int | str | None
) -> None:
    if isinstance(failure, str):
        monkeypatch.setenv("CIFAR10_URL", "http://127.0.0.1:1/x" if failure == "no server" else "cifar10")
    site.failures = [failure]
    assert dataset_of("test") == "synthetic"
    assert "CIFAR-10 cannot be downloaded (" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["broken off", "a login page", "another archive"])
def test_what_is_not_the_archive_is_not_kept_and_the_next_try_succeeds(
    batches: Path, archive: Path, home: Path, site: Site, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    whole = site.body = archive.read_bytes()
    if what == "broken off":
        site.breaks_at = len(whole) // 2
    elif what == "a login page":
        site.body = b"<html>log in</html>"
    else:
        altered = shutil.copytree(batches, archive.parent / "altered")
        (altered / "data_batch_2.bin").write_bytes(bytes(IMAGES * dataset.RECORD_BYTES))
        site.body = pack(altered, archive.parent / "altered.tar.gz").read_bytes()
    assert dataset_of("test") == "synthetic"
    message = capsys.readouterr().err
    assert "using synthetic data" in message
    assert ("what the server sent is not the archive" in message) == (what != "broken off")
    assert [path.name for path in (home / "data").rglob("*") if path.name == ARCHIVE or "tmp" in path.name] == []
    site.body, site.breaks_at = whole, None
    dataset.find.cache_clear()
    assert dataset_of("test") == "CIFAR-10"


# ---- folders that cannot be written, and deleted files


def test_a_file_in_the_place_of_the_data_folder_is_named(site: Site, home: Path, refused: Refused) -> None:
    (home / "data").write_text("a file in the way")
    with refused(str(home / "data"), "CIFAR10_DIR"):
        dataset.find()


@pytest.fixture
def full_disk(home: Path) -> Iterator[Path]:
    """The folder data/, on a disk of 64 KB."""
    folder = home / "data"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs a disk of its own: only root may mount one")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("what", ["download", "archive", "synthetic"])
def test_a_full_disk_is_named_and_nothing_is_left_on_it(
    archive: Path, site: Site, full_disk: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused, what: str
) -> None:
    site.body = archive.read_bytes()
    assert len(site.body) > 64 << 10
    if what != "download":
        monkeypatch.setenv("CIFAR10_DIR", {"archive": str(archive)}.get(what, what))
    with refused("No space left on device", str(full_disk)):
        dataset.find()
    assert [path for path in full_disk.rglob("*") if path.name != "unpacked"] == []


@pytest.mark.parametrize("what", ["archive", "folder beside the archive", "synthetic"])
def test_a_deleted_file_is_restored(
    archive: Path, batches: Path, home: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "folder beside the archive":
        shutil.copytree(batches, home / "data" / FOLDER)
        shutil.copy(archive, home / "data")
    else:
        monkeypatch.setenv("CIFAR10_DIR", str(archive) if what == "archive" else what)
    before = dataset.read("test")[2]
    (dataset.find() / "test_batch.bin").unlink()
    dataset.find.cache_clear()
    assert dataset.read("test")[2] == before


def test_a_file_deleted_during_a_run_is_named(batches: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    (dataset.find() / "test_batch.bin").unlink()
    with refused(f"{batches / 'test_batch.bin'} cannot be read"):
        dataset.read("test")


# ---- damaged files


@pytest.mark.parametrize("damage", ["truncated", "a bit flipped"])
def test_a_damaged_batch_file_is_refused(batches: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused, damage: str) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    file = batches / "test_batch.bin"
    content = bytearray(file.read_bytes())
    content[2000] ^= 1
    file.write_bytes(content if damage == "a bit flipped" else content[:-1])
    with refused(f"{file} is damaged", "SHA-256"):
        dataset.read("test")


def test_a_place_without_all_batches_is_refused(
    batches: Path, home: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    for place in (home, home / "nothing"):
        monkeypatch.setenv("CIFAR10_DIR", str(place))
        with refused(str(place), ARCHIVE):
            dataset.find()
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    (batches / "data_batch_4.bin").unlink()
    with refused(str(batches), "data_batch_4.bin"):
        dataset.find()


@pytest.mark.parametrize("damage", ["truncated", "a web page", "without a batch", "absolute path", "path that climbs out"])
def test_a_damaged_archive_is_refused_and_leaves_nothing(
    archive: Path, batches: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused, damage: str
) -> None:
    if damage == "truncated":
        archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    elif damage == "a web page":
        archive.write_bytes(b"<html>not found</html>")
    elif damage == "without a batch":
        (batches / "data_batch_5.bin").unlink()
        pack(batches, archive)
    else:  # a second file of that name, which would be written outside
        outside = tmp_path / "test_batch.bin" if damage == "absolute path" else f"{FOLDER}/../../test_batch.bin"
        pack(batches, archive, str(outside))
    monkeypatch.setenv("CIFAR10_DIR", str(archive))
    with refused(str(archive)):
        dataset.find()
    assert list((home / "data" / "unpacked").iterdir()) == []
    assert [path for path in tmp_path.rglob("test_batch.bin") if path.parent != batches] == []
