"""``course fetch NAME``: released weights and public data sets, downloaded once, whole, after you agreed to the terms.

pooch checks hashes and gives a file its final name only when it is the right one; what it lacks stands here: broken
downloads go on where they stopped, and every way of failing is one line that says what to do. ``data/sources.toml``
holds the addresses. Nothing else in the course uses the network."""

import gzip
import json
import logging
import os
import shutil
import sys
import tarfile
import time
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from course_lib.errors import CourseError, explain, progress_bar
from course_lib.profiles import DATA, ROOT

TRIES = 4
TIMEOUT = (15, 60)  # seconds to connect, and between two pieces
_amount = partial(tqdm.format_sizeof, suffix="B")  # of bytes, for people
_DAMAGED = (tarfile.TarError, shutil.ReadError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile)


@dataclass(frozen=True)
class RemoteFile:
    """One file of a source; ``data/sources.toml`` says what the fields mean."""

    name: str
    url: str
    hash: str | None = None
    unpack: bool = False


@dataclass(frozen=True)
class Source:
    """What can be fetched by one name."""

    about: str
    licence: str
    page: str
    use: str
    files: Sequence[RemoteFile] = ()


DOWNLOADS = {
    name: Source(**entry | {"files": [RemoteFile(**file) for file in entry.get("files", ())]})
    for name, entry in tomllib.loads((DATA / "sources.toml").read_text(encoding="utf-8")).items()
}
"""Names that ``course fetch`` knows. A source without files has to be fetched in a browser or with its own script."""


def fetch_command(name: str | None, to: Path | None = None, yes: bool = False) -> None:
    """What ``course fetch`` does: lists the sources or, unless ``yes`` agrees to them, shows the terms and asks."""
    import typer

    if name is None:
        for key, source in DOWNLOADS.items():
            print(f"{key:{max(map(len, DOWNLOADS))}}  {source.about} · licence: {source.licence}")
        return

    def agree(question: str) -> bool:
        print(question)
        if not yes and not sys.stdin.isatty():
            raise CourseError("nobody is here to agree to these terms: read them, then add --yes.")
        return yes or typer.confirm("Agree, and download?")

    fetch(name, to, agree)


def fetch(name: str, to: Path | None = None, agree: Callable[[str], bool] = lambda question: True) -> Path:
    """Makes everything of a source lie in its folder, whole and with the right hash; what is there stays.

    Whatever goes wrong is a CourseError; a file has its final name only when it is complete and right. ``to`` is the
    folder for the files, which is returned; by default ``downloads/NAME`` in the course or in ``COURSE_DOWNLOADS``.
    ``agree`` is shown source, size and licence before anything is downloaded; ``False`` ends without a download."""
    if name not in DOWNLOADS:
        raise CourseError(f"there is nothing called '{name}' to fetch; `course fetch` lists: {', '.join(DOWNLOADS)}")
    source = DOWNLOADS[name]
    folder = (to or Path(os.environ.get("COURSE_DOWNLOADS", ROOT / "downloads")) / name).resolve()
    if not source.files:
        text = f"{name} cannot be fetched by a program: follow {source.page} (licence: {source.licence}), put the files"
        raise CourseError(f"{text} into {folder}, then: {source.use.format(folder=folder)}")
    noted = folder / "fetched.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record = json.loads(noted.read_text(encoding="utf-8")) if noted.exists() else {}
    except OSError as error:
        raise _disk_trouble(error, folder) from error
    except ValueError as error:
        raise CourseError(f"{noted} is damaged: delete it and run again.") from error
    wanted = [file for file in source.files if not _is_there(file, folder, record)]
    new = [file for file in wanted if not (folder / file.name).exists()]
    if new and not agree(_terms(name, source, new)):
        raise CourseError("nothing was downloaded.")
    for file in wanted:
        entry = record[file.name] = _fetch_file(file, folder, source, record.get(file.name, {}))
        noted.with_name(".fetched.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.replace(noted.with_name(".fetched.json"), noted)
        print(f"{file.name}: {_amount(entry['bytes'])}, SHA-256 {entry['sha256']}")
    print(f"{name} is in {folder}\nnext: {source.use.format(folder=folder)}")
    return folder


def _is_there(file: RemoteFile, folder: Path, record: dict[str, Any]) -> bool:
    """Whether an earlier run fetched the file and it still lies there (unpacked, or byte by byte)."""
    import pooch

    entry, path = record.get(file.name, {}), folder / file.name
    if "unpacked" in entry:
        return all((path.parent / name).exists() for name in entry["unpacked"])
    return bool(entry) and path.exists() and pooch.file_hash(str(path)) == entry["sha256"]


def _terms(name: str, source: Source, files: list[RemoteFile]) -> str:
    """What a reader should know before a download; asks the servers for the size, and fails where they would fail."""
    import requests

    sizes = []
    for file in files:
        try:
            with requests.head(file.url, allow_redirects=True, timeout=TIMEOUT) as answer:
                if answer.status_code in (404, 410):
                    _check_answer(answer, file, source)
                length = answer.headers.get("Content-Length", "")
                sizes.append(int(length) if answer.ok and length.isdigit() else 0)
        except requests.RequestException as error:
            raise _unreachable(file, error) from error
    size = _amount(sum(sizes)) if all(sizes) else "not told by the server"
    hosts = ", ".join(dict.fromkeys(urlsplit(file.url).hostname or "" for file in files))
    text = f"{name}: {source.about}\nfrom:    {hosts}, as named by {source.page}\nsize:    {size}, {len(files)} file(s)"
    return f"{text}\nlicence: {source.licence}"


def _fetch_file(file: RemoteFile, folder: Path, source: Source, recorded: dict[str, Any]) -> dict[str, Any]:
    """Downloads, checks, unpacks one file; returns what is recorded about it."""
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    path, right = folder / file.name, "the published file" if file.hash else "the formerly downloaded file"
    wanted = file.hash or (f"sha256:{recorded['sha256']}" if "sha256" in recorded else None)
    if path.exists() and wanted and not pooch.hashes.hash_matches(str(path), wanted):
        raise CourseError(f"{path} is there, and is not {right}: move it away and run again.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(file.url, wanted, path.name, path.parent, downloader=_Resuming(file, path, source, wanted))
    except ValueError as error:
        text = f"what came from {file.url} is not {right} (another {wanted.partition(':')[0].upper()}), so it was"
        raise CourseError(f"{text} deleted: run again, and if that does not help look at {source.page}.") from error
    except OSError as error:
        raise _disk_trouble(error, path) from error
    entry = {"url": file.url, "sha256": pooch.file_hash(str(path)), "bytes": path.stat().st_size}
    entry["fetched"] = time.strftime("%Y-%m-%d")
    if file.unpack:
        entry["unpacked"] = _unpack(path)
        path.unlink()
    return entry


class _Resuming:
    """A downloader for pooch that keeps what came, as ``.NAME.part`` beside the final file, and goes on from there.

    A part is continued only if the server tells that its file is the same (``If-Range``), or a known hash will."""

    def __init__(self, file: RemoteFile, path: Path, source: Source, known_hash: str | None) -> None:
        self.file, self.source, self.known_hash, self.total = file, source, known_hash, 0
        self.part = path.with_name(f".{path.name}.part")
        self.tag = path.with_name(f".{path.name}.part.tag")

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        import requests

        for left in reversed(range(TRIES)):
            before = self._have()
            try:
                self._stream(url)
                break
            except requests.RequestException as error:
                have = self._have()
                if not have:
                    raise _unreachable(self.file, error) from error
                if not left or have == before:
                    total = f" of {_amount(self.total)}" if self.total else ""
                    what = f"the download broke off at {_amount(have)}{total}"
                    raise CourseError(f"{what}: run the same command again, it goes on from there.") from error
        os.replace(self.part, output_file)
        self.tag.unlink(missing_ok=True)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _stream(self, url: str) -> None:
        import requests

        have, tag = self._have(), self.tag.read_text() if self.tag.exists() else ""
        headers = {"Accept-Encoding": "identity"}
        if have and (tag or self.known_hash):
            headers |= {"Range": f"bytes={have}-"} | ({"If-Range": tag} if tag else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 416:  # the part is as long as the file or longer: it cannot be continued
                self.part.unlink()
                return self._stream(url)
            _check_answer(answer, self.file, self.source)
            if answer.status_code != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                have = 0
            length, free = answer.headers.get("Content-Length", ""), shutil.disk_usage(self.part.parent).free
            needed = int(length) if length.isdigit() else 0
            self.total = have + needed if needed else 0
            if needed > free:
                text = f"{_amount(needed)} are still to come and {self.part.parent} has {_amount(free)} free"
                raise CourseError(f"{text}: free some, or choose another folder with --to.")
            etag = answer.headers.get("ETag", "")
            self.tag.write_text(answer.headers.get("Last-Modified", "") if etag[:2] in ("", "W/") else etag)
            bar = progress_bar(total=self.total or None, initial=have, desc=self.file.name, unit="B", unit_scale=True)
            with bar, self.part.open("ab" if have else "wb") as file:
                for piece in answer.iter_content(2**16):
                    file.write(piece)
                    bar.update(len(piece))
        if self.total and self._have() != self.total:
            raise requests.ConnectionError("the server closed before the end")


def _check_answer(answer: Any, file: RemoteFile, source: Source) -> None:
    """One line for an address that is gone, closed, or shows a web page in place of the file."""
    status = answer.status_code
    if status in (404, 410):
        why = f"is gone ({status})"
    elif not answer.ok:
        why = f"refuses ({status} {answer.reason})"
    elif answer.headers.get("Content-Type", "").startswith("text/html"):
        why = "answers with a web page (a quota, or a question for a browser)"
    else:
        return
    how = f"look at {source.page}, fetch {Path(file.name).name} in a browser, put it where this command wanted it"
    raise CourseError(f"{file.url} {why}: {how} (`--to` names the folder), and run it again to have it checked.")


def _unreachable(file: RemoteFile, error: Exception) -> CourseError:
    what = f"{urlsplit(file.url).hostname} cannot be reached ({type(error).__name__})"
    return CourseError(f"{what}: is there a network, and a proxy to be set?")


def _disk_trouble(error: OSError, path: Path) -> CourseError:
    error.filename = path
    return CourseError(f"{explain(error)} (what came is kept; --to names another folder).")


def _unpack(archive: Path) -> list[str]:
    """Unpacks beside the archive, all or nothing and over nothing; returns the names of what came out."""
    work = archive.parent / ".unpacking"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        if archive.suffix == ".gz" and not archive.name.endswith(".tar.gz"):
            with gzip.open(archive) as packed, (work / archive.stem).open("wb") as file:
                shutil.copyfileobj(packed, file)
        else:
            shutil.unpack_archive(archive, work, **({} if archive.suffix == ".zip" else {"filter": "data"}))
        found = sorted(one.name for one in work.iterdir())
        if there := [name for name in found if (archive.parent / name).exists()]:
            raise CourseError(f"{archive.parent / there[0]} is there already: move it away and run again.")
        for name in found:
            (work / name).rename(archive.parent / name)
    except _DAMAGED as error:
        raise CourseError(f"{archive} cannot be unpacked ({error}): delete it and run again.") from error
    except OSError as error:
        raise _disk_trouble(error, archive) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return found
