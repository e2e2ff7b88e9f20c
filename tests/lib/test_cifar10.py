"""CIFAR-10 is found, downloaded, unpacked, checked and refused as promised; a synthetic takes its place and says so."""

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from conftest import NOWHERE, Refused

from cifar_lib import cifar10 as dataset
from cifar_lib.cifar10 import ARCHIVE, FOLDER

IMAGES = 12  # in each of the small batch files
FindRefuses = Callable[..., None]


# ---- fixtures: a small dataset and a server


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
    """The archive of these files, as the official one is made."""
    (tmp_path / "archives").mkdir()
    return pack(batches, tmp_path / "archives" / ARCHIVE)


def pack(folder: Path, path: Path, *others: tarfile.TarInfo) -> Path:
    """Pack the batch files of `folder`, and then `others`."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(folder, FOLDER)
        for member in others:
            member.size = 4 if member.isfile() else 0
            tar.addfile(member, io.BytesIO(b"evil"))
    return path


def origin_of(split: str) -> dict:
    """What a record says of this split."""
    return dataset.read(split)[2]


class Site(ThreadingHTTPServer):
    """Serves `body` on this machine, and remembers which Range each request asked for."""

    body = b""
    resumes = True  # whether it heeds Range
    breaks_at: int | None = None  # the byte at which it hangs up
    answer: int | None = 200  # None: it hangs up without an answer
    tells_length = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/{ARCHIVE}"


class Visit(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site, wanted = self.server, self.headers.get("Range")
        site.asked.append(wanted)
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and site.resumes else 0
        if site.answer is None:
            return
        if site.answer != 200 or first >= len(site.body):
            self.send_error(416 if site.answer == 200 else site.answer)
            return
        self.send_response(206 if first else 200)
        if site.tells_length:
            self.send_header("Content-Length", str(len(site.body) - first))
        self.end_headers()
        self.wfile.write(site.body[first : site.breaks_at])

    def log_message(self, *ignored: object) -> None:
        pass


@pytest.fixture
def site(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server for the archive, where the library looks for it."""
    with Site() as site:
        site.body = bytes(range(256)) * 4000
        monkeypatch.setenv("CIFAR10_URL", site.url)
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.shutdown()
        thread.join()


# ---- the official files


def test_official_test_images_are_a_thousand_of_each_class(cifar10: Path) -> None:
    _, labels, origin = dataset.read("test")
    assert np.bincount(labels).tolist() == [1000] * 10
    assert origin["dataset"] == "CIFAR-10"


def test_official_training_images_come_in_the_official_order(cifar10: Path) -> None:
    images, labels, _ = dataset.read("train")
    assert np.bincount(labels).tolist() == [5000] * 10
    assert labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert images[0, 0, 0, :3].tolist() == [59, 43, 50]  # red, top left, as published for the first photo


# ---- reading batch files


def test_read_finds_a_label_then_three_planes_row_by_row(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    record = (batches / "data_batch_2.bin").read_bytes()[3 * dataset.RECORD_BYTES :]  # its fourth image
    images, labels, _ = dataset.read("train")
    assert labels[IMAGES + 3] == record[0]
    for channel, y, x in [(0, 0, 0), (0, 5, 9), (1, 31, 2), (2, 31, 31)]:
        assert images[IMAGES + 3, channel, y, x] == record[1 + 1024 * channel + 32 * y + x]


def test_read_gives_all_images_of_a_split(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    assert dataset.read("train")[0].shape == (5 * IMAGES, 3, 32, 32)
    assert dataset.read("test")[0].shape == (IMAGES, 3, 32, 32)


def test_read_names_the_hashes_of_what_it_read(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    hashes = origin_of("train")["sha256"] | origin_of("test")["sha256"]
    assert hashes == dataset.SHA256


# ---- where it is looked for


def test_named_archive_is_unpacked_under_data(archive: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(archive))
    assert dataset.find().parent == home / "data" / "unpacked"
    assert origin_of("test")["dataset"] == "CIFAR-10"


def test_archive_is_unpacked_only_once(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(archive))
    before = (dataset.find() / "test_batch.bin").stat().st_ino
    dataset.find.cache_clear()
    assert (dataset.find() / "test_batch.bin").stat().st_ino == before


def test_named_folder_of_batches_is_used_as_it_is(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    assert dataset.find() == batches


def test_named_folder_may_hold_the_unpacked_folder(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches.parent))
    assert dataset.find() == batches


def test_named_folder_may_hold_the_archive(archive: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(archive.parent))
    assert dataset.find().parent == home / "data" / "unpacked"


def test_named_dataset_goes_before_the_data_folder(batches: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(batches, home / "data" / FOLDER)
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    assert dataset.find() == batches


def test_data_folder_goes_before_a_download(batches: Path, home: Path, site: Site) -> None:
    shutil.copytree(batches, home / "data" / FOLDER)
    assert dataset.find() == home / "data" / FOLDER
    assert site.asked == []


def test_archive_in_the_data_folder_goes_before_a_download(archive: Path, home: Path, site: Site) -> None:
    (home / "data").mkdir()
    shutil.copy(archive, home / "data")
    assert dataset.find().parent == home / "data" / "unpacked"
    assert site.asked == []


def test_dataset_is_downloaded_where_it_is_nowhere(archive: Path, home: Path, site: Site) -> None:
    site.body = archive.read_bytes()
    assert origin_of("test")["dataset"] == "CIFAR-10"
    assert (home / "data" / ARCHIVE).read_bytes() == site.body


def test_word_synthetic_asks_for_generated_images(batches: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(batches, home / "data" / FOLDER)
    monkeypatch.setenv("CIFAR10_DIR", "synthetic")
    assert origin_of("test")["dataset"] == "synthetic"


def test_a_folder_that_a_user_named_synthetic_holds_what_it_holds(
    batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shutil.copytree(batches, tmp_path / "own" / "synthetic")
    monkeypatch.setenv("CIFAR10_DIR", str(own))
    assert origin_of("test")["dataset"] == "CIFAR-10" and dataset.location() == str(own)


@pytest.mark.parametrize("generated", [False, True], ids=["official", "synthetic"])
def test_a_child_process_finds_what_its_parent_found(
    batches: Path, home: Path, monkeypatch: pytest.MonkeyPatch, generated: bool
) -> None:
    monkeypatch.setenv("CIFAR10_DIR", "synthetic" if generated else str(batches.parent))
    parent = dataset.find()
    monkeypatch.setenv("CIFAR10_DIR", dataset.location())
    dataset.find.cache_clear()
    assert dataset.find() == parent


# ---- the synthetic


def test_synthetic_takes_over_where_no_server_is_reached(small: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert origin_of("test")["dataset"] == "synthetic"
    assert "synthetic" in capsys.readouterr().err


@pytest.mark.parametrize("answer", [404, 503, None])
def test_synthetic_takes_over_where_the_server_does_not_serve(small: None, site: Site, answer: int | None) -> None:
    site.answer = answer
    assert origin_of("test")["dataset"] == "synthetic"


def test_synthetic_has_the_format_of_the_dataset(small: None) -> None:
    (images, labels, _), (test_images, _, _) = dataset.read("train"), dataset.read("test")
    assert images.shape == (5 * IMAGES, 3, 32, 32) and test_images.shape == (IMAGES, 3, 32, 32)
    assert images.dtype == np.uint8 and labels.dtype == np.int64
    assert set(labels.tolist()) == set(range(10))


def test_synthetic_is_marked_in_the_records_origin(small: None) -> None:
    assert origin_of("test")["dataset"] == "synthetic"


def test_synthetic_is_the_same_each_time(small: None, home: Path) -> None:
    before = origin_of("train")["sha256"]
    shutil.rmtree(home / "data" / "synthetic")
    dataset.find.cache_clear()
    assert origin_of("train")["sha256"] == before


def test_synthetic_classes_can_be_told_apart(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "IMAGES_PER_FILE", 200)
    (images, labels, _), (test_images, test_labels, _) = dataset.read("train"), dataset.read("test")
    means = np.stack([images[labels == label].mean(0) for label in range(10)])
    nearest = ((test_images[:, None].astype(float) - means) ** 2).sum((2, 3, 4)).argmin(1)
    assert (nearest == test_labels).mean() > 0.5  # chance is 0.1


# ---- download


def test_download_fetches_the_whole_file(site: Site, home: Path) -> None:
    target = dataset.download(site.url, home / ARCHIVE)
    assert target.read_bytes() == site.body
    assert list(home.iterdir()) == [target]


def test_download_makes_the_folder_it_needs(site: Site, home: Path) -> None:
    assert dataset.download(site.url, home / "new" / ARCHIVE).read_bytes() == site.body


def test_download_resumes_what_an_earlier_try_left(site: Site, home: Path) -> None:
    (home / f"{ARCHIVE}.part").write_bytes(b"z" * 1000)
    assert dataset.download(site.url, home / ARCHIVE).read_bytes() == b"z" * 1000 + site.body[1000:]
    assert site.asked == ["bytes=1000-"]


def test_download_begins_again_where_the_server_cannot_resume(site: Site, home: Path) -> None:
    site.resumes = False
    (home / f"{ARCHIVE}.part").write_bytes(b"z" * 1000)
    assert dataset.download(site.url, home / ARCHIVE).read_bytes() == site.body


def test_download_begins_again_where_the_part_is_too_long(site: Site, home: Path) -> None:
    (home / f"{ARCHIVE}.part").write_bytes(b"z" * (len(site.body) + 1))
    assert dataset.download(site.url, home / ARCHIVE).read_bytes() == site.body
    assert site.asked[1:] == [None]


def test_broken_off_download_keeps_only_the_part(site: Site, home: Path) -> None:
    site.breaks_at = 300_000
    with pytest.raises(URLError):
        dataset.download(site.url, home / ARCHIVE)
    assert list(home.iterdir()) == [home / f"{ARCHIVE}.part"]
    assert (home / f"{ARCHIVE}.part").read_bytes() == site.body[:300_000]


def test_broken_off_download_goes_on_at_the_next_try(site: Site, home: Path) -> None:
    site.breaks_at = 300_000
    with pytest.raises(URLError):
        dataset.download(site.url, home / ARCHIVE)
    site.breaks_at = None
    assert dataset.download(site.url, home / ARCHIVE).read_bytes() == site.body
    assert site.asked == [None, "bytes=300000-"]


def test_download_says_when_no_server_is_reached(home: Path) -> None:
    with pytest.raises(URLError):
        dataset.download(NOWHERE + ARCHIVE, home / ARCHIVE)
    assert list(home.iterdir()) == []


def test_download_says_when_the_server_hangs_up_without_an_answer(site: Site, home: Path) -> None:
    site.answer = None
    with pytest.raises(URLError):
        dataset.download(site.url, home / ARCHIVE)


def test_download_needs_a_folder_it_can_make(site: Site, home: Path, refused: Refused) -> None:
    (home / "data").write_text("a file in the way")
    with refused(str(home / "data"), "CIFAR10_DIR"):
        dataset.find()


@pytest.mark.parametrize("what", ["a login page", "half of it", "another archive"])
def test_what_is_not_the_archive_is_not_kept_and_fetched_again(
    batches: Path, archive: Path, home: Path, site: Site, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    site.tells_length, right = False, archive.read_bytes()
    site.body = {"a login page": b"<html>log in</html>", "half of it": right[: len(right) // 2]}.get(what) or altered(archive)
    assert origin_of("test")["dataset"] == "synthetic"
    assert "what the server sent is not the archive" in capsys.readouterr().err
    assert [path.name for path in (home / "data").iterdir()] == ["synthetic"]
    site.body = right
    dataset.find.cache_clear()
    assert origin_of("test")["dataset"] == "CIFAR-10"


def altered(archive: Path) -> bytes:
    """The archive with another byte in a batch file."""
    folder = archive.parent / "altered"
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (folder / FOLDER / "data_batch_2.bin").write_bytes(bytes(IMAGES * dataset.RECORD_BYTES))
    return pack(folder / FOLDER, folder / ARCHIVE).read_bytes()


def test_the_rest_of_another_file_is_not_taken_for_the_archive(archive: Path, home: Path, site: Site) -> None:
    site.body = archive.read_bytes()
    (home / "data").mkdir()
    (home / "data" / f"{ARCHIVE}.part").write_bytes(b"z" * 1000)
    assert origin_of("test")["dataset"] == "CIFAR-10"
    assert site.asked == ["bytes=1000-", None]


# ---- what was deleted, and full disks


def test_a_deleted_file_is_unpacked_again(archive: Path, batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(archive))
    file = dataset.find() / "test_batch.bin"
    file.unlink()
    dataset.find.cache_clear()
    origin_of("test")
    assert file.read_bytes() == (batches / "test_batch.bin").read_bytes()


def test_a_deleted_file_is_had_from_the_archive_that_lies_beside_its_folder(archive: Path, batches: Path, home: Path) -> None:
    shutil.copytree(batches, home / "data" / FOLDER)
    shutil.copy(archive, home / "data")
    (home / "data" / FOLDER / "test_batch.bin").unlink()
    assert origin_of("test")["dataset"] == "CIFAR-10"


def test_a_deleted_file_of_the_synthetic_is_made_again(small: None) -> None:
    before = origin_of("test")
    (dataset.find() / "test_batch.bin").unlink()
    dataset.find.cache_clear()
    assert origin_of("test") == before


def test_a_file_deleted_under_way_is_named(batches: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    (dataset.find() / "test_batch.bin").unlink()
    with refused(str(batches / "test_batch.bin"), "cannot be read"):
        dataset.read("test")


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


# ---- bad input


def test_truncated_batch_file_is_refused(batches: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    file = batches / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with refused(str(file)):
        dataset.read("train")


def test_altered_batch_file_is_refused(batches: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    file = batches / "test_batch.bin"
    content = bytearray(file.read_bytes())
    content[2000] ^= 1
    file.write_bytes(content)
    with refused(str(file), "SHA-256"):
        dataset.read("test")


def test_folder_without_batches_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(home))
    with refused(str(home), ARCHIVE):
        dataset.find()


def test_folder_with_some_batches_is_refused(batches: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    (batches / "data_batch_4.bin").unlink()
    with refused(str(batches), "data_batch_4.bin"):
        dataset.find()


def test_missing_path_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(home / "nothing"))
    with refused(str(home / "nothing")):
        dataset.find()


@pytest.fixture
def find_refuses(home: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> FindRefuses:
    """Demands that `dataset.find` refuses an archive by its name and leaves nothing of it behind."""

    def demand(archive: Path, *words: str) -> None:
        monkeypatch.setenv("CIFAR10_DIR", str(archive))
        with refused(str(archive), *words):
            dataset.find()
        assert list((home / "data" / "unpacked").iterdir()) == []

    return demand


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_truncated_archive_is_refused(archive: Path, find_refuses: FindRefuses, share: float) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: int(share * len(content))])
    find_refuses(archive)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes(2000)])
def test_what_is_no_archive_is_refused(tmp_path: Path, find_refuses: FindRefuses, content: bytes) -> None:
    path = tmp_path / ARCHIVE
    path.write_bytes(content)
    find_refuses(path)


def test_archive_without_a_batch_is_refused(batches: Path, tmp_path: Path, find_refuses: FindRefuses) -> None:
    (batches / "data_batch_5.bin").unlink()
    find_refuses(pack(batches, tmp_path / ARCHIVE), "data_batch_5.bin")


@pytest.mark.parametrize("name", ["../evil", f"{FOLDER}/../../test_batch.bin"])
def test_archive_that_climbs_out_is_refused(
    batches: Path, tmp_path: Path, find_refuses: FindRefuses, name: str
) -> None:
    find_refuses(pack(batches, tmp_path / ARCHIVE, tarfile.TarInfo(name)))
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"evil"] == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_archive_with_a_link_out_is_refused(
    batches: Path, tmp_path: Path, find_refuses: FindRefuses, kind: bytes
) -> None:
    link = tarfile.TarInfo(f"{FOLDER}/test_batch.bin")
    link.type, link.linkname = kind, str(tmp_path / "secret") if kind == tarfile.SYMTYPE else "../secret"
    find_refuses(pack(batches, tmp_path / ARCHIVE, link))


def test_absolute_path_in_an_archive_is_not_written_there(
    batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside" / "test_batch.bin"
    outside.parent.mkdir()
    monkeypatch.setenv("CIFAR10_DIR", str(pack(batches, tmp_path / ARCHIVE, tarfile.TarInfo(str(outside)))))
    dataset.find()
    assert not outside.exists()


# ---- what it needs


def test_the_dataset_is_read_without_torch() -> None:
    imports = "import sys; from cifar_bench.records import cifar10; print('torch' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True, check=True)
    assert process.stdout == "False\n"
