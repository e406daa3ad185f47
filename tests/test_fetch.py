"""``course fetch`` against a server on loopback: the right file under its final name, or one line and no such file."""

import errno
import gzip
import hashlib
import io
import os
import re
import struct
import threading
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from PIL import Image

from course_lib import fetch as fetching
from course_lib.errors import CourseError
from course_lib.fetch import DOWNLOADS, RemoteFile, Source, fetch, fetch_command

CONTENT = os.urandom(3_000_000)


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``cut`` is after how many bytes of an answer the line breaks, once for each entry."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut, self.ranges, self.tagged, self.asked = {}, [], True, True, []

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        server, name = self.server, self.path[1:]
        content = server.files.get(name)
        if content is None:
            return self.send_error(404)
        if isinstance(content, str):
            return self.send([("Content-Type", "text/html; charset=utf-8")], content.encode(), body)
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        headers = [("ETag", tag)] if server.tagged else []
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(start[1]) if start and server.ranges and self.headers.get("If-Range", tag) == tag else 0
        if body:
            server.asked.append(start)
        if start > len(content):
            return self.send_error(416)
        if start:
            headers.append(("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"))
        self.send(headers, content[start:], body, 206 if start else 200)

    def send(self, headers, content, body, status=200):
        self.send_response(status)
        for key, value in [*headers, ("Content-Length", str(len(content)))]:
            self.send_header(key, value)
        self.end_headers()
        if body:
            cut = self.server.cut.pop(0) if self.server.cut else len(content)
            self.wfile.write(content[:cut])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def offer(monkeypatch, server, tmp_path):
    """Makes ``thing`` a source of one file, and returns the folder it goes to and a call that fetches it."""

    def make(name="thing.bin", content=CONTENT, hash=None, **options):
        server.files[name] = content
        file = RemoteFile(name, server.url(name), hash, **options)
        source = Source("a thing", "none", "https://example.org", "use {folder}", (file,))
        monkeypatch.setitem(DOWNLOADS, "thing", source)
        return tmp_path / "got", lambda **how: fetch("thing", tmp_path / "got", **how)

    return make


def md5(content):
    return f"md5:{hashlib.md5(content).hexdigest()}"


def whole(folder, name="thing.bin", content=CONTENT):
    """The file is there, is the right one, and nothing else but the record lies beside it."""
    assert (folder / name).read_bytes() == content
    return {path.name for path in folder.iterdir()} == {name, "fetched.json"}


def test_a_file_arrives_whole_with_its_hash_recorded_and_is_not_fetched_twice(offer, server):
    folder, run = offer(hash=md5(CONTENT))
    run()
    assert whole(folder)
    assert hashlib.sha256(CONTENT).hexdigest() in (folder / "fetched.json").read_text()
    asked = len(server.asked)
    run(agree=lambda question: pytest.fail("nothing is missing, so nothing is asked"))
    assert len(server.asked) == asked


@pytest.mark.parametrize("known", [True, False])
def test_a_broken_download_goes_on_where_it_stopped(offer, server, known):
    folder, run = offer(hash=md5(CONTENT) if known else None)
    server.cut = [1_000_000]
    run()
    assert whole(folder) and len(server.asked) == 2
    assert 0 < server.asked[1] <= 1_000_000


def test_an_ended_run_leaves_a_part_that_the_next_run_continues(offer, server):
    folder, run = offer()
    server.cut = [1_000_000, 0, 0, 0]
    with pytest.raises(CourseError, match=r"broke off at .* of 3\.00MB"):
        run()
    assert not (folder / "thing.bin").exists()
    server.cut, server.asked = [], []
    run()
    assert whole(folder) and server.asked[0] > 0


@pytest.mark.parametrize("change", ["file", "ranges", "tags"])
def test_a_part_is_not_continued_with_another_file(offer, server, change):
    """The file changed meanwhile; the server knows no ranges; nothing tells that the file is the same."""
    server.tagged = change != "tags"
    folder, run = offer()
    server.cut = [1_000_000, 0, 0, 0]
    with pytest.raises(CourseError):
        run()
    server.cut, server.asked = [], []
    server.ranges = change != "ranges"
    server.files["thing.bin"] = other = os.urandom(3_000_000)
    run()
    assert whole(folder, content=other) and server.asked == [0]


def test_a_part_longer_than_the_file_is_thrown_away(offer, server):
    folder, run = offer(hash=md5(CONTENT))
    folder.mkdir()
    (folder / ".thing.bin.part").write_bytes(CONTENT + b"more")
    run()
    assert whole(folder)


def test_a_wrong_hash_leaves_no_file(offer):
    folder, run = offer(hash=md5(b"what was published"))
    with pytest.raises(CourseError, match="not the published file"):
        run()
    assert not list(folder.glob("*"))


def test_a_file_that_changed_since_its_first_download_is_refused(offer, server):
    folder, run = offer()
    run()
    (folder / "thing.bin").unlink()
    server.files["thing.bin"] = b"something else"
    with pytest.raises(CourseError, match="not the formerly downloaded"):
        run()
    assert not (folder / "thing.bin").exists()


def test_a_file_put_there_by_hand_is_checked_and_never_replaced(offer, server):
    folder, run = offer(hash=md5(CONTENT))
    folder.mkdir()
    (folder / "thing.bin").write_bytes(b"my own")
    with pytest.raises(CourseError, match="move it away"):
        run()
    assert (folder / "thing.bin").read_bytes() == b"my own"
    (folder / "thing.bin").write_bytes(CONTENT)
    run()
    assert whole(folder) and not server.asked


@pytest.mark.parametrize(
    ("content", "says"), [(None, "is gone"), ("<html>quota</html>", "answers with a web page")], ids=["404", "page"]
)
def test_an_address_without_the_file_says_where_to_look(offer, content, says):
    folder, run = offer(content=content)
    with pytest.raises(CourseError, match=rf"{says}.*example\.org"):
        run()
    assert not (folder / "thing.bin").exists()


def test_no_network_is_one_line(offer, server, monkeypatch):
    folder, run = offer()
    url = "http://127.0.0.1:9/thing.bin"  # nobody listens there
    monkeypatch.setitem(DOWNLOADS, "thing", Source("", "", "", "", (RemoteFile("thing.bin", url),)))
    with pytest.raises(CourseError, match=r"127\.0\.0\.1 cannot be reached"):
        run()
    assert not (folder / "thing.bin").exists()


def test_a_full_disk_is_one_line_before_or_while_writing(offer, server, monkeypatch):
    folder, run = offer()
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as full:
        full.setattr(fetching.shutil, "disk_usage", lambda path: usage(1, 1, 1000))
        with pytest.raises(CourseError, match=r"3\.00MB are still to come .* 1\.00kB free"):
            run()

    class Full(io.RawIOBase):
        def write(self, piece):
            raise OSError(errno.ENOSPC, "No space left on device")

    plain = type(folder).open
    with monkeypatch.context() as full:
        full.setattr(
            type(folder),
            "open",
            lambda self, *how, **more: Full() if self.suffix == ".part" else plain(self, *how, **more),
        )
        with pytest.raises(CourseError, match="no space left"):
            run()
    assert not (folder / "thing.bin").exists()
    run()
    assert whole(folder)


def test_a_folder_that_cannot_be_written_is_one_line(offer, tmp_path):
    (tmp_path / "got").write_text("a file where the folder should be")
    _, run = offer()
    with pytest.raises(CourseError):
        run()


def test_terms_are_shown_with_size_and_licence_and_a_no_is_a_no(offer, server, capsys, monkeypatch):
    folder, run = offer()
    shown = []
    with pytest.raises(CourseError, match="nothing was downloaded"):
        run(agree=lambda question: shown.append(question))
    assert "3.00MB" in shown[0] and "licence: none" in shown[0] and not server.asked
    with pytest.raises(CourseError, match="--yes"):
        fetch_command("thing", folder)
    fetch_command("thing", folder, yes=True)
    assert whole(folder) and f"next: use {folder}" in capsys.readouterr().out


# --- true formats ----------------------------------------


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return buffer.getvalue()


def png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_zip_of_class_folders_is_unpacked_and_opens_as_a_data_set(offer):
    from course_lib.data import load

    names = [f"afhq/{part}/{kind}/{n}.png" for part in ("train", "val") for kind in ("cat", "dog") for n in range(2)]
    folder, run = offer("afhq.zip", zipped({name: png("red") for name in names}), unpack=True)
    run()
    assert not (folder / "afhq.zip").exists()
    assert len(load(f"afhq:{folder}/afhq", size=8)) == 8
    run(agree=lambda question: pytest.fail("it is there"))


def test_idx_files_are_unpacked_to_where_the_loader_wants_them(server, monkeypatch, tmp_path):
    from course_lib.data import load

    def idx(*shape):
        return gzip.compress(
            struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + bytes(torch.Size(shape).numel())
        )

    files = []
    for file in DOWNLOADS["kmnist"].files:
        content = idx(4, 28, 28) if "images" in file.name else idx(4)
        server.files[file.name] = content
        files.append(RemoteFile(file.name, server.url(file.name), md5(content), unpack=True))
    monkeypatch.setitem(DOWNLOADS, "kmnist", Source("", "", "", "", tuple(files)))
    fetch("kmnist", tmp_path)
    assert len(load(f"kmnist:{tmp_path}", size=28)) == 8


def test_a_damaged_archive_is_one_line_and_leaves_nothing_unpacked(offer):
    good = zipped({"a.png": png("red"), "b.png": png("blue")})
    folder, run = offer("set.zip", good[: len(good) // 2], unpack=True)
    with pytest.raises(CourseError, match="cannot be unpacked"):
        run()
    assert not list(folder.glob("*.png"))


def test_an_archive_does_not_write_over_files_or_outside_its_folder(offer, tmp_path):
    folder, run = offer("set.zip", zipped({"a.png": png("red"), "../outside.png": png("blue")}), unpack=True)
    folder.mkdir()
    (folder / "a.png").write_bytes(b"my own")
    with pytest.raises(CourseError, match="already"):
        run()
    assert (folder / "a.png").read_bytes() == b"my own"
    assert not (tmp_path / "outside.png").exists()


# --- the list ----------------------------------------


def test_every_data_set_that_the_loaders_know_has_a_source():
    from course_lib.data.published import LAYOUTS

    assert set(LAYOUTS) <= set(DOWNLOADS)


def test_sources_are_complete():
    for name, source in DOWNLOADS.items():
        assert source.about and source.licence and source.page.startswith("http"), name
        assert "{folder}" in source.use or "PATH" in source.use, name
        names = [file.name for file in source.files]
        assert len(set(names)) == len(names), name
        for file in source.files:
            assert re.match(r"https?://[\w.-]+/\S+$", file.url), name
            assert file.hash is None or re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", file.hash), name


def test_an_unknown_name_and_a_source_for_browsers_say_what_to_do(tmp_path):
    with pytest.raises(CourseError, match="cifar10"):
        fetch("cifar")
    with pytest.raises(CourseError, match="NVlabs"):
        fetch("ffhq", tmp_path)
