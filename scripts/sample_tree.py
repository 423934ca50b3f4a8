"""Make a small believable tree of files to try the program on, and print where it is.

    python scripts/sample_tree.py [SCRATCH]

The tree is SCRATCH/tree; SCRATCH is by default a directory of the user's own under $TMPDIR. About
150 files, under 5 MB: documents, pictures, sound, archives, old and new ones, duplicates, links,
an empty and a sparse file, names that break careless programs, and litter that is ignored by
default. The same names and bytes every time (a seeded generator); ages count back from now, over
three years. A tree that is there already is left as it is.
"""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import struct
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

DAY_NS = 24 * 3600 * 10**9
AGE_DAYS_MAX = 3 * 365

WORDS = """
    account agenda archive balance board budget chapter client contract copy draft estimate figure
    garden holiday house index invoice journal kitchen letter meeting minutes notes offer order
    painting plan project quarter receipt report review river sample schedule school summary survey
    tax travel winter yearly
""".split()


def main() -> None:
    if len(sys.argv) > 2 or sys.argv[1:] in (["-h"], ["--help"]):
        sys.exit(__doc__)
    scratch = Path(sys.argv[1]) if len(sys.argv) == 2 else own_scratch()
    print(make_tree(scratch.absolute()))


def own_scratch() -> Path:
    """A directory under $TMPDIR which belongs to this user, made if it is not there."""
    scratch = Path(tempfile.gettempdir()) / f"lifecycle-sample-{os.getuid()}"
    scratch.mkdir(mode=0o700, exist_ok=True)
    # The name can be guessed and $TMPDIR is shared: another user's directory or link is no place.
    status = scratch.lstat()
    if status.st_uid != os.getuid() or not scratch.is_dir() or scratch.is_symlink():
        sys.exit(f"{scratch} belongs to somebody else: remove it or set TMPDIR")
    return scratch


def make_tree(scratch: Path, now_ns: int | None = None) -> Path:
    """Make SCRATCH/tree unless it exists; ages are counted back from `now_ns`."""
    tree = scratch / "tree"
    if tree.is_dir():
        return tree
    scratch.mkdir(parents=True, exist_ok=True)
    # Built beside its place and renamed, so that a half-made tree is never taken for a whole one.
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=scratch))
    try:
        Builder(building, time.time_ns() if now_ns is None else now_ns).build()
        building.chmod(0o755)
        building.rename(tree)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return tree


class Builder:
    """Fills one empty directory."""

    def __init__(self, root: Path, now_ns: int) -> None:
        self.root = os.fsencode(root)
        self.now_ns = now_ns
        self.random = random.Random(20260101)

    def build(self) -> None:
        self.documents()
        self.pictures()
        self.sound_and_film()
        self.archives()
        self.duplicates_and_links()
        self.odd_names()
        self.litter()
        self.put("Projects/river/data/measurements.bin", b"")  # empty
        self.sparse("Projects/river/data/disk.img", size=2 * 1024 * 1024)
        os.makedirs(os.path.join(self.root, b"Projects/river/nothing-here-yet"))
        self.age_directories()

    # What stands in the tree

    def documents(self) -> None:
        for number in range(36):  # one a month
            name = f"Documents/invoices/invoice-{1000 + number}.pdf"
            content = pdf(f"Invoice {1000 + number}", self.text(60))
            self.put(name, content, age_days=30 * (36 - number))
        for number in range(1, 25):
            name = f"Documents/notes/{number:02}-{self.word()}-{self.word()}.txt"
            self.put(name, self.text(self.random.randint(20, 900)).encode())
        for name in ("contract", "estimate", "minutes", "offer", "letter to the school"):
            self.put(f"Documents/letters/{name}.docx", docx(self.text(200)))
        rows = (f"{i},{self.word()},{self.random.randint(1, 9999) / 100}" for i in range(400))
        self.put("Documents/accounts.csv", "\n".join(["id,item,amount", *rows, ""]).encode())
        self.put("Documents/report.md", f"# Report\n\n{self.text(500)}\n".encode(), age_days=0)
        self.put("Documents/contacts.json", b'{"contacts": [{"name": "Ada"}]}\n', age_days=1)

    def pictures(self) -> None:
        for place in ("sea", "mountains", "garden"):
            for number in range(1, 11):
                name = f"Pictures/{place}/IMG_{self.random.randint(1000, 9999)}_{number:02}"
                self.put(f"{name}.jpg", self.jpeg(self.random.randint(8_000, 60_000)))
        for number in range(1, 13):
            name = f"Pictures/screenshots/Screenshot {number:02}.png"
            self.put(name, self.png(width=96 + 8 * number, height=64))

    def sound_and_film(self) -> None:
        for number in range(1, 6):
            self.put(f"Music/{number:02} {self.word()}.wav", self.wav(seconds=2))
        self.put("Videos/birthday.mp4", self.mp4(300_000), age_days=700)
        self.put("Videos/walk.mp4", self.mp4(200_000), age_days=90)

    def archives(self) -> None:
        texts = {f"{self.word()}-{n}.txt": self.text(300).encode() for n in range(5)}
        self.put("Archives/letters.zip", zipped(texts), age_days=1000)
        self.put("Archives/site-backup.tar.gz", tarred(texts), age_days=500)
        self.put("Archives/server.log.gz", gzip.compress(self.text(3000).encode(), mtime=0))
        self.put("Downloads/setup-1.2.zip", zipped({"setup.sh": b"#!/bin/sh\n"}), age_days=45)
        for name in ("manual.pdf", "ticket.pdf"):
            self.put(f"Downloads/{name}", pdf(name, self.text(100)), age_days=60)

    def duplicates_and_links(self) -> None:
        same = pdf("Tax return", self.text(400))
        self.put("Documents/tax-return.pdf", same, age_days=200)
        self.put("Documents/tax-return (copy).pdf", same, age_days=199)
        self.put("Downloads/tax-return.pdf", same, age_days=201)
        picture = self.jpeg(40_000)
        self.put("Pictures/favourite.jpg", picture, age_days=30)
        self.put("Pictures/garden/IMG_0001.jpg", picture, age_days=30)
        first = self.put("Projects/river/paper.tex", self.text(800).encode(), age_days=12)
        os.link(first, os.path.join(self.root, b"Projects/river/paper-submitted.tex"))
        os.symlink("river/paper.tex", os.path.join(self.root, b"Projects/current-paper.tex"))

    def odd_names(self) -> None:
        names: tuple[str | bytes, ...] = (
            "Straße nach Köln.txt",
            "cafe\N{COMBINING ACUTE ACCENT}.txt",  # the same to the eye as the next one
            "caf\N{LATIN SMALL LETTER E WITH ACUTE}.txt",
            "写真 📷.txt",
            " leading and trailing .txt ",
            "two\nlines.txt",
            "-rf",
            "100% 'sure' \"really\" $HOME.txt",
            b"latin-1 caf\xe9.txt",  # not valid UTF-8
            "x" * 251 + ".txt",  # as long as a name may be
        )
        for name in names:
            # Not every filesystem takes every name (APFS refuses what is not UTF-8).
            try:
                self.put(os.path.join(b"Odd names", os.fsencode(name)), self.text(5).encode())
            except OSError as error:
                print(f"left out {name!r}: {error.strerror}", file=sys.stderr)

    def litter(self) -> None:
        for name in (
            ".DS_Store",
            "Pictures/.DS_Store",
            "Documents/report.md~",
            "Downloads/film.mp4.part",
            "Projects/river/x.tmp",
            "Projects/river/.cache/index.bin",
        ):
            self.put(name, self.random.randbytes(500))

    # How it is written

    def put(self, name: str | bytes, content: bytes, age_days: int | None = None) -> bytes:
        """Write one file with an age (up to three years by default); its whole path."""
        path = os.path.join(self.root, os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(content)
        self.set_age(path, age_days)
        return path

    def sparse(self, name: str, size: int) -> None:
        path = self.put(name, b"start of a disk image\n")
        os.truncate(path, size)
        self.set_age(path, 400)

    def set_age(self, path: bytes, age_days: int | None = None) -> None:
        within_day_ns = self.random.randrange(DAY_NS)
        days = self.random.randrange(2, AGE_DAYS_MAX) if age_days is None else age_days
        stamp_ns = self.now_ns - days * DAY_NS - within_day_ns
        os.utime(path, ns=(stamp_ns, stamp_ns))

    def age_directories(self) -> None:
        """Last of all, and from the leaves up: filling a directory makes it new again."""
        for directory, subdirectories, files in os.walk(self.root, topdown=False):
            newest_ns = max(
                (
                    os.lstat(os.path.join(directory, name)).st_mtime_ns
                    for name in (*subdirectories, *files)
                    if not os.path.islink(os.path.join(directory, name))
                ),
                default=self.now_ns - 100 * DAY_NS,
            )
            os.utime(directory, ns=(newest_ns, newest_ns))

    # What is in the files

    def word(self) -> str:
        return self.random.choice(WORDS)

    def text(self, words: int) -> str:
        lines: Iterator[str] = (
            " ".join(self.random.choices(WORDS, k=min(12, words - start)))
            for start in range(0, words, 12)
        )
        return "\n".join(lines) + "\n"

    def png(self, width: int, height: int) -> bytes:
        """A picture that opens: coloured stripes."""
        colours = [self.random.randbytes(3) for _ in range(8)]
        row = b"\0" + b"".join(colours[x * 8 // width] for x in range(width))

        def chunk(kind: bytes, body: bytes) -> bytes:
            checksum = zlib.crc32(kind + body)
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        pixels = zlib.compress(row * height)
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            (chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
        )

    def jpeg(self, size: int) -> bytes:
        """What tells a JPEG file, then noise: it compresses as badly as a real one."""
        header = b"\xff\xd8\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0\1\2\0\0\1\0\1\0\0"
        return header + self.random.randbytes(size).replace(b"\xff", b"\xfe") + b"\xff\xd9"

    def wav(self, seconds: int) -> bytes:
        """Quiet noise that plays: mono, 8 bits, 8,000 samples a second."""
        samples = bytes(128 + byte % 16 for byte in self.random.randbytes(8000 * seconds))
        form = struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8)
        data = b"data" + struct.pack("<I", len(samples)) + samples
        body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + data
        return b"RIFF" + struct.pack("<I", len(body)) + body

    def mp4(self, size: int) -> bytes:
        """The boxes of an MP4 file around noise."""
        brand = struct.pack(">I", 24) + b"ftypisom\0\0\2\0isommp41"
        return brand + struct.pack(">I", size + 8) + b"mdat" + self.random.randbytes(size)


def pdf(title: str, text: str) -> bytes:
    """A PDF file of one page that opens."""
    lines = "".join(f"({line}) ' " for line in (title, *text.splitlines()))
    page = f"BT /F1 11 Tf 14 TL 50 800 Td {lines}ET".encode()
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % offset for offset in offsets)
    out.write(b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1))
    out.write(b"startxref\n%d\n%%%%EOF\n" % table)
    return out.getvalue()


def docx(text: str) -> bytes:
    """A Word document of plain paragraphs."""
    schemas = "http://schemas.openxmlformats.org"
    paragraphs = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in text.splitlines())
    main_part = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{schemas}/package/2006/content-types">'
        '<Default Extension="rels"'
        ' ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/word/document.xml" ContentType="{main_part}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{schemas}/package/2006/relationships">'
        f'<Relationship Id="rId1" Type="{schemas}/officeDocument/2006/relationships/officeDocument"'
        ' Target="word/document.xml"/></Relationships>',
        "word/document.xml": f'<w:document xmlns:w="{schemas}/wordprocessingml/2006/main">'
        f"<w:body>{paragraphs}</w:body></w:document>",
    }
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    return zipped({name: (head + part).encode() for name, part in parts.items()})


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # A ZipInfo of our own carries a fixed date: the same bytes every time.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(out.getvalue(), mtime=0)


if __name__ == "__main__":
    main()
