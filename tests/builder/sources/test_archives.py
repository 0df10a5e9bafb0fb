"""Archives that are unpacked, and members that are refused, by name."""

from __future__ import annotations

import io
import os
import random
import stat
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fnbuild.builder.sources.archives import archive_kind, archive_stem, unpack_archive
from fnbuild.builder.sources.limits import SourceLimits
from fnbuild.builder.sources.zip_directory import count_zip_members
from fnbuild.errors import InputError

pytestmark = pytest.mark.system

Pack = Callable[..., Path]
FILES = {
    "function.yaml": b"metadata: {}\n",
    "lib/part.py": b"x = 1\n",
    "weights.bin": os.urandom(70000),
}
NAMES = ["code.zip", "code.tar", "code.tar.gz", "code.tar.bz2", "code.tar.xz"]


def tar(path: Path, *members: tuple[str, dict[str, Any]], content: bytes = b"text") -> Path:
    """Return a tar of members with these attributes; those of type file have the content."""
    with tarfile.open(path, "w") as archive:
        for name, attributes in members:
            info = tarfile.TarInfo(name)
            for key, value in attributes.items():
                setattr(info, key, value)
            data = content if info.type == tarfile.REGTYPE else b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def link(target: str) -> dict[str, Any]:
    return {"type": tarfile.SYMTYPE, "linkname": target}


def zip_member(name: str, mode: int, system: int = 3) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = system, mode << 16
    return info


def refused(path: Path, tmp_path: Path, **limits: int) -> str:
    with pytest.raises(InputError) as raised:
        unpack_archive(path, tmp_path / "out", path.name, SourceLimits(**limits))
    assert raised.value.hint
    return str(raised.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_is_recognized_by_its_content(pack: Pack, tmp_path: Path, name: str) -> None:
    archive = pack(name, FILES).rename(tmp_path / "download")
    assert archive_kind(archive) == name.partition(".")[2]
    unpack_archive(archive, tmp_path / "out", "download")
    assert {n: (tmp_path / "out" / n).read_bytes() for n in FILES} == FILES


def test_a_file_that_is_not_an_archive(tmp_path: Path) -> None:
    for content in (b"", b"def handler(): pass\n", b"\x00" * 600):
        (tmp_path / "x").write_bytes(content)
        assert archive_kind(tmp_path / "x") is None
    (tmp_path / "x").write_bytes(b"7z\xbc\xaf\x27\x1c\x00\x04")
    with pytest.raises(InputError, match="7-Zip"):
        archive_kind(tmp_path / "x")
    with pytest.raises(InputError, match="cannot read"):
        archive_kind(tmp_path / "none")


def test_names_without_their_suffixes() -> None:
    assert [archive_stem(n) for n in ("a.tar.gz", "B.ZIP", "x.y.tgz", "plain", ".zip")] == [
        "a", "B", "x.y", "plain", ".zip",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["/etc/passwd", "../out", "a/../../b", "C:/x", "a/./../../b"])
def test_names_outside_the_folder(pack: Pack, tmp_path: Path, name: str) -> None:
    for archive in (pack("x.tar", {name: b"x"}), pack("x.zip", {name: b"x"})):
        assert name in refused(archive, tmp_path)
        (tmp_path / "out").rmdir()


def test_windows_separators(pack: Pack, tmp_path: Path) -> None:
    unpack_archive(pack("x.zip", {"lib\\part.py": b"1"}), tmp_path / "out", "x.zip")
    assert (tmp_path / "out/lib/part.py").read_bytes() == b"1"
    assert "lead" in refused(pack("y.zip", {"..\\..\\evil.py": b"1"}), tmp_path / "out")


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "lib/../../x", ""])
def test_links_outside_the_folder(tmp_path: Path, target: str) -> None:
    archive = tar(tmp_path / "x.tar", ("labels", link(target)))
    assert "'labels'" in refused(archive, tmp_path)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as members:
        members.writestr(zip_member("labels", stat.S_IFLNK | 0o777), target)
    assert "'labels'" in refused(tmp_path / "x.zip", tmp_path / "out")


def test_links_that_lead_outside_in_combination(tmp_path: Path) -> None:
    # Each alone stays inside; the second goes up from the target of the first.
    archive = tar(
        tmp_path / "x.tar",
        ("a/b/c", {"type": tarfile.DIRTYPE}),
        ("short", link("a/b/c")),
        ("deep/er/evil", link("../../short/../../../../x")),
    )
    assert "evil" in refused(archive, tmp_path)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    archive = tar(tmp_path / "x.tar", ("lib", link("other")), ("lib/part.py", {}))
    assert "'lib/part.py'" in refused(archive, tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_links_inside_the_folder_are_kept(tmp_path: Path) -> None:
    archive = tar(
        tmp_path / "x.tar",
        ("lib/real.py", {}),
        ("main.py", link("lib/real.py")),
        ("again.py", {"type": tarfile.LNKTYPE, "linkname": "lib/real.py"}),
    )
    unpack_archive(archive, tmp_path / "out", "x.tar")
    assert os.readlink(tmp_path / "out/main.py") == "lib/real.py"
    assert (tmp_path / "out/again.py").read_bytes() == b"text"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as members:
        members.writestr("lib/real.py", "text")
        members.writestr(zip_member("main.py", stat.S_IFLNK | 0o777), "lib/real.py")
    unpack_archive(tmp_path / "x.zip", tmp_path / "out2", "x.zip")
    assert (tmp_path / "out2/main.py").read_bytes() == b"text"


def test_a_hard_link_to_a_missing_member(tmp_path: Path) -> None:
    archive = tar(tmp_path / "x.tar", ("a", {"type": tarfile.LNKTYPE, "linkname": "etc/passwd"}))
    assert "'a'" in refused(archive, tmp_path)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes(tmp_path: Path, kind: bytes) -> None:
    archive = tar(tmp_path / "x.tar", ("dev/sda", {"type": kind}))
    assert "'dev/sda'" in refused(archive, tmp_path)


def test_setuid_bits_are_dropped(tmp_path: Path) -> None:
    archive = tar(
        tmp_path / "x.tar", ("run.sh", {"mode": 0o6755}), ("main.py", {"mode": 0o4666, "uid": 7})
    )
    unpack_archive(archive, tmp_path / "out", "x.tar")
    assert stat.S_IMODE((tmp_path / "out/run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "out/main.py").stat().st_mode) == 0o644
    assert (tmp_path / "out/main.py").stat().st_uid == os.getuid()


def test_a_repeated_name(tmp_path: Path, pack: Pack) -> None:
    archive = tar(tmp_path / "x.tar", ("main.py", {}), ("./main.py", {}))
    assert "another member" in refused(archive, tmp_path)
    folder_and_file = tar(tmp_path / "y.tar", ("lib", {}), ("lib/part.py", {}))
    assert "not a folder" in refused(folder_and_file, tmp_path / "out")


def test_too_many_members(pack: Pack, tmp_path: Path) -> None:
    archive = pack("x.zip", {f"{n}.txt": b"" for n in range(11)})
    assert "more than 10 members" in refused(archive, tmp_path, members=10)


def test_the_members_of_a_zip_are_counted_before_they_are_read(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{n}.txt" for n in range(70_000)]  # more than the field of the old format can hold
    archive = pack("x.zip", dict.fromkeys(names, b""))
    assert count_zip_members(archive, 100_000) == 70_000
    assert count_zip_members(archive, 500) == 501
    with_more = tmp_path / "y.zip"
    with_more.write_bytes(b"#!/bin/sh\n" + pack("z.zip", FILES).read_bytes())
    assert count_zip_members(with_more, 10) == len(FILES)
    # An archive with a number that is too low.
    lying = bytearray(pack("l.zip", {f"{n}.txt": b"" for n in range(11)}).read_bytes())
    at = lying.rindex(b"PK\x05\x06")
    lying[at + 8 : at + 12] = struct.pack("<2H", 1, 1)
    (tmp_path / "l.zip").write_bytes(lying)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert "more than 10 members" in refused(tmp_path / "l.zip", tmp_path, members=10)
    for damaged in (b"", b"PK\x05\x06", b"PK\x05\x06" + bytes(18), b"PK\x01\x02" * 30):
        (tmp_path / "d.zip").write_bytes(damaged)
        assert count_zip_members(tmp_path / "d.zip", 10) == 0


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_is_nested_too_deep(pack: Pack, tmp_path: Path, kind: str) -> None:
    archive = pack(f"x.{kind}", {"d/" * 1900 + "file": b""})
    assert "more than 100 folders deep" in refused(archive, tmp_path)
    unpack_archive(pack(f"y.{kind}", {"d/" * 99 + "file": b""}), tmp_path / "fits", "y")
    assert (tmp_path / "fits" / ("d/" * 99) / "file").is_file()


def test_headers_that_describe_headers(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for _ in range(3000):
            info = tarfile.TarInfo("././@LongLink")
            info.type, info.size = tarfile.GNUTYPE_LONGNAME, 5
            archive.addfile(info, io.BytesIO(b"name\0"))
    assert "is damaged" in refused(tmp_path / "x.tar", tmp_path)


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.tar.xz", "x.tar.bz2"])
def test_an_archive_larger_than_the_limit(pack: Pack, tmp_path: Path, name: str) -> None:
    archive = pack(name, {"zeros": bytes(8 << 20)})
    assert "200 times its size" in refused(archive, tmp_path, ratio_min_bytes=1 << 20)
    assert sum(f.stat().st_size for f in (tmp_path / "out").iterdir()) < 4 << 20
    archive = pack(name, {"random": os.urandom(300 << 10)})
    assert "more than 0.2 MiB" in refused(archive, tmp_path / "out", unpacked_bytes=200 << 10)


def test_a_header_larger_than_the_limit(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert "damaged" in refused(tmp_path / "x.tar", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_archives(pack: Pack, tmp_path: Path, name: str) -> None:
    archive = pack(name, FILES)
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    assert name in refused(archive, tmp_path)


def test_a_changed_byte_is_detected(pack: Pack, tmp_path: Path) -> None:
    archive = pack("x.zip", FILES)
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    assert "damaged" in refused(archive, tmp_path)


def test_an_encrypted_member(pack: Pack, tmp_path: Path) -> None:
    data = bytearray(pack("x.zip", {"secret.py": b"x"}).read_bytes())
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + place] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    assert "encrypted" in refused(tmp_path / "x.zip", tmp_path)


def test_non_ascii_names_and_macos_metadata(pack: Pack, tmp_path: Path) -> None:
    files = {"модель/ラベル.txt": b"1", "__MACOSX/._main.py": b"2", "lib/.DS_Store": b"3"}
    for name in ("x.zip", "x.tar.gz"):
        unpack_archive(pack(name, files), tmp_path / f"out-{name}", name)
        names = [p.name for p in (tmp_path / f"out-{name}").rglob("*") if p.is_file()]
        assert names == ["ラベル.txt"]


def test_invalid_file_names(pack: Pack, tmp_path: Path) -> None:
    assert "no file can have" in refused(pack("x.tar", {"a/" * 3000 + "b": b""}), tmp_path)
    with pytest.raises(InputError, match="cannot unpack"):
        unpack_archive(pack("y.tar", {"b" * 300: b""}), tmp_path / "out2", "y.tar")


def test_archives_of_the_tar_program(tmp_path: Path) -> None:
    folder = tmp_path / "fn"
    (folder / "lib").mkdir(parents=True)
    (folder / "main.py").write_text("x")
    (folder / "lib" / "hole").touch()
    os.truncate(folder / "lib" / "hole", 1 << 20)
    subprocess.run(["tar", "-C", folder, "-czSf", tmp_path / "x.tgz", "."], check=True)
    unpack_archive(tmp_path / "x.tgz", tmp_path / "out", "x.tgz")
    assert (tmp_path / "out/main.py").read_text() == "x"
    assert (tmp_path / "out/lib/hole").stat().st_size == 1 << 20


@pytest.mark.parametrize("name", NAMES)
def test_mutated_archives_are_unpacked_or_refused(pack: Pack, tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    archive = pack(name, {"a/" + "é" * 60 + ".py": b"1" * 300, "l" * 150: b"yy", "main.py": b"x"})
    sound = archive.read_bytes()
    seen = {True: 0, False: 0}
    for number in range(150):
        data = bytearray(sound)
        for _ in range(chance.choice((1, 1, 3, 20))):
            place = chance.randrange(len(data))
            if chance.random() < 0.6:
                data[place] = chance.randrange(256)
            else:
                data[place : place + chance.randrange(1, 50)] = data[: chance.randrange(50)]
        archive.write_bytes(data)
        home = tmp_path / str(number)
        home.mkdir()
        try:
            unpack_archive(
                archive, home / "out", name, SourceLimits(unpacked_bytes=1 << 20, members=100)
            )
            seen[True] += 1
        except InputError:
            seen[False] += 1
        assert {path.name for path in home.iterdir()} <= {"out"}
    assert seen[False] > 20
    assert {path.name for path in tmp_path.iterdir()} == {name, *map(str, range(150))}
