"""The dataset is found, checked and refused as promised; augmentation does what slow, plain code does."""

import hashlib
import io
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from conftest import NOWHERE, Refused

from cifar_lib import data
from cifar_lib.data import ARCHIVE, FOLDER, Split

IMAGES = 12  # in each of the small batch files
FindRefuses = Callable[..., None]


# ---- fixtures: a small dataset and a server


@pytest.fixture
def small(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch files are small ones from here on."""
    monkeypatch.setattr(data, "IMAGES_PER_FILE", IMAGES)


@pytest.fixture
def batches(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of six small batch files that pass for the official ones."""
    folder = tmp_path / "elsewhere" / FOLDER
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in data.SHA256:
        records = random.integers(256, size=(IMAGES, data.RECORD_BYTES), dtype=np.uint8)
        records[:, 0] %= 10
        records.tofile(folder / name)
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in data.SHA256}
    monkeypatch.setattr(data, "SHA256", hashes)
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


class Site(ThreadingHTTPServer):
    """Serves `body` on this machine, and remembers which Range each request asked for."""

    body = b""
    resumes = True  # whether it heeds Range
    breaks_at: int | None = None  # the byte at which it hangs up
    answer: int | None = 200  # None: it hangs up without an answer

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


# ---- augmentation and batches


def slow_augment(
    images: np.ndarray, random: torch.Generator, pad: int, cutout: int, border: str = "constant", flip: list | None = None
) -> np.ndarray:
    """What `data.augment` promises, one image at a time."""
    count, _, height, width = images.shape

    def draw(below: int) -> list[int]:
        return torch.randint(below, (count,), generator=random).tolist()

    top, left, mirror = draw(2 * pad + 1), draw(2 * pad + 1), flip or draw(2)
    hole_y, hole_x = (draw(height), draw(width)) if cutout else ([0] * count, [0] * count)
    result = []
    for i in range(count):
        image = np.pad(images[i], ((0, 0), (pad, pad), (pad, pad)), mode=border)
        image = image[:, top[i] : top[i] + height, left[i] : left[i] + width].copy()
        if mirror[i]:
            image = image[:, :, ::-1].copy()
        for y in range(hole_y[i] - cutout // 2, hole_y[i] - cutout // 2 + cutout):
            for x in range(hole_x[i] - cutout // 2, hole_x[i] - cutout // 2 + cutout):
                if 0 <= y < height and 0 <= x < width:
                    image[:, y, x] = 0
        result.append(image)
    return np.stack(result)


def some_images(count: int, height: int = 32, width: int = 32) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(1, 256, (count, 3, height, width), dtype=torch.uint8, generator=random)


@pytest.mark.parametrize(
    ("count", "height", "width", "pad", "cutout"),
    [
        (60, 32, 32, 4, 8),
        (1, 32, 32, 4, 8),
        (20, 8, 8, 2, 3),
        (20, 10, 14, 3, 5),
        (20, 32, 32, 0, 8),
        (20, 32, 32, 4, 0),
    ],
)
def test_augment_does_what_slow_code_does(count: int, height: int, width: int, pad: int, cutout: int) -> None:
    images = some_images(count, height, width)
    fast = data.augment(images, torch.Generator().manual_seed(5), pad, cutout)
    slow = slow_augment(images.numpy(), torch.Generator().manual_seed(5), pad, cutout)
    assert np.array_equal(fast.numpy(), slow)


@pytest.mark.parametrize(("height", "width", "pad"), [(32, 32, 4), (9, 5, 4), (32, 32, 0)])
def test_augment_mirrors_at_the_border_and_flips_what_it_is_told(height: int, width: int, pad: int) -> None:
    images, flip = some_images(40, height, width), [True, False] * 20
    fast = data.augment(images, torch.Generator().manual_seed(5), pad, 8, reflect=True, flip=torch.tensor(flip))
    slow = slow_augment(images.numpy(), torch.Generator().manual_seed(5), pad, 8, "reflect", flip)
    assert np.array_equal(fast.numpy(), slow)


def test_flips_alternate_between_epochs_and_differ_between_seeds() -> None:
    slope = torch.arange(32, dtype=torch.uint8).expand(200, 3, 32, 32).contiguous()  # brighter to the right
    split = Split(slope, torch.arange(200), {"dataset": "CIFAR-10", "sha256": {}})

    def flipped(seed: int) -> list[torch.Tensor]:
        random, found = torch.Generator().manual_seed(seed), []
        for number in range(4):
            batches = [*data.training_batches(split, 64, random, cutout=0, reflect=True, epoch=number)]
            images, labels = (torch.cat(part) for part in zip(*batches))
            falls = (images[:, 0, 0, 8] > images[:, 0, 0, 24])
            found.append(falls[labels.argsort()])
        return found

    one, two, three, four = flipped(0)
    assert torch.equal(one, ~two) and torch.equal(one, three) and torch.equal(two, four)
    assert 0.3 < one.float().mean() < 0.7
    assert not torch.equal(one, flipped(1)[0])


def test_last_images_are_those_at_the_end() -> None:
    split = Split(torch.arange(10), torch.arange(10), {"dataset": "CIFAR-10", "sha256": {}})
    assert split.last(3).labels.tolist() == [7, 8, 9] and len(split.last(0)) == 0


def test_augment_pads_by_4_and_cuts_out_8_by_default() -> None:
    images = some_images(30)
    fast = data.augment(images, torch.Generator().manual_seed(5))
    assert np.array_equal(fast.numpy(), slow_augment(images.numpy(), torch.Generator().manual_seed(5), 4, 8))


def test_augment_leaves_its_input_alone() -> None:
    images = some_images(10)
    data.augment(images, torch.Generator().manual_seed(0))
    assert torch.equal(images, some_images(10))


def test_augment_gives_bytes_in_channels_last_memory() -> None:
    augmented = data.augment(some_images(5), torch.Generator().manual_seed(0))
    assert augmented.dtype == torch.uint8
    assert augmented.is_contiguous(memory_format=torch.channels_last)


def test_normalise_is_the_originals_formula_for_every_byte() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    expected = (np.arange(256) / 255 - 0.5) / 0.25
    assert data.normalise(pixels).dtype == torch.float32
    assert np.allclose(data.normalise(pixels).numpy(), expected, rtol=0, atol=1e-6)


@pytest.fixture
def plain_split() -> Split:
    """150 images of one colour each: image i has label i and pixels i + 1, so it is known again when augmented."""
    labels = torch.arange(150)
    images = (labels + 1).to(torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32).contiguous()
    return Split(images, labels, {"dataset": "CIFAR-10", "sha256": {}})


def epoch(split: Split, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*data.training_batches(split, 64, random))
    return torch.cat(images), torch.cat(labels)


def test_every_epoch_shows_each_image_once(plain_split: Split) -> None:
    random = torch.Generator().manual_seed(0)
    for _ in range(2):
        assert sorted(epoch(plain_split, random)[1].tolist()) == list(range(150))


def test_every_image_comes_with_its_own_label(plain_split: Split) -> None:
    images, labels = epoch(plain_split, torch.Generator().manual_seed(0))
    colours = ((images.amax((1, 2, 3)) * 0.25 + 0.5) * 255).round()
    assert torch.equal(colours, labels + 1.0)


def test_epochs_differ_in_order(plain_split: Split) -> None:
    random = torch.Generator().manual_seed(0)
    assert not torch.equal(epoch(plain_split, random)[1], epoch(plain_split, random)[1])


@pytest.mark.parametrize("padding", [0, 2, 4])
def test_batches_are_cropped_with_the_padding_asked_for(plain_split: Split, padding: int) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.cat([images for images, _ in data.training_batches(plain_split, 64, random, padding, cutout=0)])
    black = images[:, 0] == data.normalise(torch.zeros(1, dtype=torch.uint8))  # no image has black of its own
    assert black.all(2).sum(1).max() == black.all(1).sum(1).max() == padding


def test_the_last_batch_may_be_smaller(plain_split: Split) -> None:
    sizes = [len(labels) for _, labels in data.training_batches(plain_split, 64, torch.Generator().manual_seed(0))]
    assert sizes == [64, 64, 22]


def test_the_same_seed_gives_the_same_batches(plain_split: Split) -> None:
    one, other = (epoch(plain_split, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_another_seed_gives_other_batches(plain_split: Split) -> None:
    one, other = (epoch(plain_split, torch.Generator().manual_seed(seed)) for seed in (3, 4))
    assert not torch.equal(one[1], other[1])


# ---- the official files


def test_official_test_images_are_a_thousand_of_each_class(cifar10: Path) -> None:
    test = data.load("test")
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    assert test.is_real


def test_official_training_images_come_in_the_official_order(cifar10: Path) -> None:
    train = data.load("train")
    assert torch.bincount(train.labels).tolist() == [5000] * 10
    assert train.labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert train.images[0, 0, 0, :3].tolist() == [59, 43, 50]  # red, top left, as published for the first photo


# ---- reading batch files


def test_load_reads_a_label_then_three_planes_row_by_row(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    record = (batches / "data_batch_2.bin").read_bytes()[3 * data.RECORD_BYTES :]  # its fourth image
    train = data.load("train")
    assert train.labels[IMAGES + 3] == record[0]
    for channel, y, x in [(0, 0, 0), (0, 5, 9), (1, 31, 2), (2, 31, 31)]:
        assert train.images[IMAGES + 3, channel, y, x] == record[1 + 1024 * channel + 32 * y + x]


def test_load_gives_all_images_of_a_split(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    assert data.load("train").images.shape == (5 * IMAGES, 3, 32, 32)
    assert data.load("test").images.shape == (IMAGES, 3, 32, 32)


def test_load_names_the_hashes_of_what_it_read(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    hashes = data.load("train").origin["sha256"] | data.load("test").origin["sha256"]
    assert hashes == data.SHA256


def test_first_keeps_images_and_labels_together(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    test = data.load("test")
    assert len(test.first(5)) == 5
    assert torch.equal(test.first(5).images, test.images[:5]) and torch.equal(test.first(5).labels, test.labels[:5])


# ---- where it is looked for


def test_named_archive_is_unpacked_under_data(archive: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(archive))
    assert data.find().parent == home / "data" / "unpacked"
    assert data.load("test").is_real


def test_archive_is_unpacked_only_once(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(archive))
    before = (data.find() / "test_batch.bin").stat().st_ino
    data.find.cache_clear()
    assert (data.find() / "test_batch.bin").stat().st_ino == before


def test_named_folder_of_batches_is_used_as_it_is(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    assert data.find() == batches


def test_named_folder_may_hold_the_unpacked_folder(batches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches.parent))
    assert data.find() == batches


def test_named_folder_may_hold_the_archive(archive: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(archive.parent))
    assert data.find().parent == home / "data" / "unpacked"


def test_named_dataset_goes_before_the_data_folder(batches: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(batches, home / "data" / FOLDER)
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    assert data.find() == batches


def test_data_folder_goes_before_a_download(batches: Path, home: Path, site: Site) -> None:
    shutil.copytree(batches, home / "data" / FOLDER)
    assert data.find() == home / "data" / FOLDER
    assert site.asked == []


def test_archive_in_the_data_folder_goes_before_a_download(archive: Path, home: Path, site: Site) -> None:
    (home / "data").mkdir()
    shutil.copy(archive, home / "data")
    assert data.find().parent == home / "data" / "unpacked"
    assert site.asked == []


def test_dataset_is_downloaded_where_it_is_nowhere(archive: Path, home: Path, site: Site) -> None:
    site.body = archive.read_bytes()
    assert data.load("test").is_real
    assert (home / "data" / ARCHIVE).read_bytes() == site.body


def test_word_stand_in_asks_for_generated_images(batches: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(batches, home / "data" / FOLDER)
    monkeypatch.setenv("CIFAR10_DIR", "stand-in")
    assert not data.load("test").is_real


# ---- the stand-in


def test_stand_in_takes_over_where_no_server_is_reached(small: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert not data.load("test").is_real
    assert "stand-in" in capsys.readouterr().err


@pytest.mark.parametrize("answer", [404, 503, None])
def test_stand_in_takes_over_where_the_server_does_not_serve(small: None, site: Site, answer: int | None) -> None:
    site.answer = answer
    assert not data.load("test").is_real


def test_stand_in_has_the_format_of_the_dataset(small: None) -> None:
    train, test = data.load("train"), data.load("test")
    assert train.images.shape == (5 * IMAGES, 3, 32, 32) and test.images.shape == (IMAGES, 3, 32, 32)
    assert train.images.dtype == torch.uint8 and train.labels.dtype == torch.int64
    assert set(train.labels.tolist()) == set(range(10))


def test_stand_in_is_marked_in_the_records_origin(small: None) -> None:
    assert data.load("test").origin["dataset"] == "stand-in"


def test_stand_in_is_the_same_each_time(small: None, home: Path) -> None:
    before = data.load("train").origin["sha256"]
    shutil.rmtree(home / "data" / "stand-in")
    data.find.cache_clear()
    assert data.load("train").origin["sha256"] == before


def test_stand_in_classes_can_be_told_apart(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "IMAGES_PER_FILE", 200)
    train, test = data.load("train"), data.load("test")
    means = torch.stack([train.images[train.labels == label].float().mean(0).flatten() for label in range(10)])
    nearest = torch.cdist(test.images.flatten(1).float(), means).argmin(1)
    assert (nearest == test.labels).float().mean() > 0.5  # chance is 0.1


# ---- download


def test_download_fetches_the_whole_file(site: Site, home: Path) -> None:
    target = data.download(site.url, home / ARCHIVE)
    assert target.read_bytes() == site.body
    assert list(home.iterdir()) == [target]


def test_download_makes_the_folder_it_needs(site: Site, home: Path) -> None:
    assert data.download(site.url, home / "new" / ARCHIVE).read_bytes() == site.body


def test_download_resumes_what_an_earlier_try_left(site: Site, home: Path) -> None:
    (home / f"{ARCHIVE}.part").write_bytes(b"z" * 1000)
    assert data.download(site.url, home / ARCHIVE).read_bytes() == b"z" * 1000 + site.body[1000:]
    assert site.asked == ["bytes=1000-"]


def test_download_begins_again_where_the_server_cannot_resume(site: Site, home: Path) -> None:
    site.resumes = False
    (home / f"{ARCHIVE}.part").write_bytes(b"z" * 1000)
    assert data.download(site.url, home / ARCHIVE).read_bytes() == site.body


def test_download_begins_again_where_the_part_is_too_long(site: Site, home: Path) -> None:
    (home / f"{ARCHIVE}.part").write_bytes(b"z" * (len(site.body) + 1))
    assert data.download(site.url, home / ARCHIVE).read_bytes() == site.body
    assert site.asked[1:] == [None]


def test_broken_off_download_keeps_only_the_part(site: Site, home: Path) -> None:
    site.breaks_at = 300_000
    with pytest.raises(URLError):
        data.download(site.url, home / ARCHIVE)
    assert list(home.iterdir()) == [home / f"{ARCHIVE}.part"]
    assert (home / f"{ARCHIVE}.part").read_bytes() == site.body[:300_000]


def test_broken_off_download_goes_on_at_the_next_try(site: Site, home: Path) -> None:
    site.breaks_at = 300_000
    with pytest.raises(URLError):
        data.download(site.url, home / ARCHIVE)
    site.breaks_at = None
    assert data.download(site.url, home / ARCHIVE).read_bytes() == site.body
    assert site.asked == [None, "bytes=300000-"]


def test_download_says_when_no_server_is_reached(home: Path) -> None:
    with pytest.raises(URLError):
        data.download(NOWHERE + ARCHIVE, home / ARCHIVE)
    assert list(home.iterdir()) == []


def test_download_says_when_the_server_hangs_up_without_an_answer(site: Site, home: Path) -> None:
    site.answer = None
    with pytest.raises(URLError):
        data.download(site.url, home / ARCHIVE)


def test_download_needs_a_folder_it_can_make(site: Site, home: Path, refused: Refused) -> None:
    (home / "data").write_text("a file in the way")
    with refused(str(home / "data"), "CIFAR10_DIR"):
        data.find()


# ---- bad input


def test_truncated_batch_file_is_refused(batches: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    file = batches / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with refused(str(file)):
        data.load("train")


def test_altered_batch_file_is_refused(batches: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    file = batches / "test_batch.bin"
    content = bytearray(file.read_bytes())
    content[2000] ^= 1
    file.write_bytes(content)
    with refused(str(file), "SHA-256"):
        data.load("test")


def test_folder_without_batches_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(home))
    with refused(str(home), ARCHIVE):
        data.find()


def test_folder_with_some_batches_is_refused(batches: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(batches))
    (batches / "data_batch_4.bin").unlink()
    with refused(str(batches), "data_batch_4.bin"):
        data.find()


def test_missing_path_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setenv("CIFAR10_DIR", str(home / "nothing"))
    with refused(str(home / "nothing")):
        data.find()


@pytest.fixture
def find_refuses(home: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> FindRefuses:
    """Demands that `data.find` refuses an archive by its name and leaves nothing of it behind."""

    def demand(archive: Path, *words: str) -> None:
        monkeypatch.setenv("CIFAR10_DIR", str(archive))
        with refused(str(archive), *words):
            data.find()
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
    data.find()
    assert not outside.exists()
