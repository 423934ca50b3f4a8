"""What RESTORE.md tells people to type works, with nothing of this program."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess

import pytest

from tests.support.vaults import REPOSITORY, EncryptedHouse, VaultHouse, flip, key_of

TOOLS = ("sh", "zstd", "unzip", "sha256sum", "grep", "find", "cut", "touch", "chmod")
BIG = random.Random(5).randbytes((2 << 20) + 7)


@pytest.fixture(params=["plain", "encrypted"])
def how(request):
    """How the vault is kept; what a shell needs for it has to be there."""
    wanted = (*TOOLS, "age") if request.param == "encrypted" else TOOLS
    missing = [tool for tool in wanted if shutil.which(tool) is None]
    if missing:
        because = f"not installed: {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(because)
        pytest.skip(because)
    return request.param


@pytest.fixture
def house(tmp_path_factory, monkeypatch, how):
    monkeypatch.setattr("lifecycle_sync.vault.objects.PART_SIZE_MAX", 1 << 20)
    folder = tmp_path_factory.mktemp("hand")
    house = VaultHouse(folder) if how == "plain" else EncryptedHouse(folder)
    with house.open() as vault:
        house.store(vault, {b"Pictures/cat.jpg": b"an old cat", b"dog.jpg": b"a dog" * 1000})
        file_id = next(vault.versions_at(REPOSITORY, b"Pictures/cat.jpg")).file_id
        with vault.writer() as writer:
            writer.add(key_of(b"a cat"), b"a cat")
            newer = house.version(
                b"Pictures/cat.jpg", key_of(b"a cat"), size=5, number=2, file_id=file_id
            )
            writer.commit([newer])
        house.store(vault, {b"film.mkv": BIG})
    return house


class Reader:
    """Somebody with a shell who reads the page in the vault."""

    def __init__(self, house: VaultHouse) -> None:
        self.folder = house.path
        # Not in a folder whose name has the page's own words.
        self.lines = os.fspath(house.folder / "lines")
        self.pack = os.fspath(house.folder / "pack.zip")
        self.key = house.folder / "key"
        self.restored = house.folder / "back"
        text = (house.path / "RESTORE.md").read_text(encoding="utf-8")
        self.blocks = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)

    def type(self, beginning: str, **blanks: str) -> str:
        """Run the block that has these words, its blanks filled in; what it says."""
        (block,) = [block for block in self.blocks if beginning in block]
        for before, after in blanks.items():
            block = block.replace(f"{before}=...", f"{before}={after}")
        if "for name in ...;" in block:
            block = block.replace("for name in ...;", f"for name in {blanks['names']};")
        block = block.replace("restored", os.fspath(self.restored))
        block = block.replace("/tmp/lines", self.lines)
        block = block.replace("/tmp/pack.zip", self.pack).replace("-i key ", f"-i {self.key} ")
        done = subprocess.run(
            ["sh", "-eu", "-c", block],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout


def test_a_version_is_restored_with_a_shell(house):
    reader = Reader(house)
    found = reader.type("for m in manifests").splitlines()
    assert len(found) == 2
    newest = next(line for line in found if '"number":2' in line)
    digest = re.search(r'"content":"sha256:([0-9a-f]{64})"', newest)[1]  # type: ignore[index]
    place = reader.type("grep -o '^{", digest=digest)
    name = re.fullmatch(r'{"pack":"([0-9a-f]{64})"\n', place)[1]  # type: ignore[index]
    block = next(it for it in reader.blocks if "unzip -p" in it)
    reader.blocks[reader.blocks.index(block)] = f"    digest={digest}\n{block}"
    reader.type("unzip -p", name=name)
    assert reader.restored.read_bytes() == b"a cat"
    assert reader.type("sha256sum restored").startswith(digest)
    reader.type("touch -d")
    assert reader.restored.stat().st_mode & 0o7777 == 0o644
    assert reader.restored.stat().st_mtime_ns == 1_767_323_045_123_456_789


def test_a_large_version_is_restored_from_its_parts(house):
    reader = Reader(house)
    reader.type("for m in manifests")
    place = reader.type("grep -o '^{", digest=key_of(BIG).digest.hex())
    names = re.findall(r"[0-9a-f]{64}", place)
    assert len(names) == 3
    reader.type("for name in ...;", names=" ".join(names))
    assert reader.restored.read_bytes() == BIG


def test_damage_is_found_with_a_shell(house):
    reader = Reader(house)
    assert reader.type("sha256sum --quiet") == ""
    for folder in ("packs", "objects", "manifests"):
        path = house.files(folder)[0]
        flip(path, 60)
        assert reader.type("sha256sum --quiet") == f"damaged: {path.relative_to(house.path)}\n"
        flip(path, 60)


def test_a_pack_is_listed_by_any_tool(house, how):
    for path in house.files("packs"):
        pack = path
        if how == "encrypted":
            pack = house.folder / "pack.zip"
            command = ["age", "-d", "-i", house.folder / "key", "-o", pack, path]
            subprocess.run(command, check=True)
        done = subprocess.run(["unzip", "-tq", pack], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
