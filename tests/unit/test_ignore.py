"""The ignore rules: the documented defaults, gitignore syntax, and that git itself agrees."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle_sync.errors import ConfigError
from lifecycle_sync.model.gitignore import compile_pattern
from lifecycle_sync.observe.ignore import NOTHING, IgnoreRules

# -- the defaults ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [b".hidden", b".DS_Store", b"Thumbs.db", b"a~", b"~", b"a.tmp", b"a.bak", b"a.swp"]
)
def test_files_of_the_documented_names_are_ignored(name):
    rules = IgnoreRules()
    assert rules.ignores(name, False)
    assert rules.ignores(b"some/where/" + name, False)
    sifted = rules.sift(b"some/where", [name, b"other"], name + b"\0other")
    assert sifted.always | sifted.unless_directory == {name}


@pytest.mark.parametrize(
    "name",
    [b"a", b"a.TMP", b"thumbs.db", b"xThumbs.db", b"Thumbs.db.txt", b"~a", b"a.tmp.txt", b"a.",
     b"tmp", b"bak", b"a.bakk", b"\xff"],
)  # fmt: skip
def test_other_names_are_not(name):
    assert not IgnoreRules().ignores(name, False)


def test_hidden_directories_are_ignored_with_all_below_them():
    rules = IgnoreRules()
    assert rules.ignores(b".git", True)
    assert rules.ignores(b".git/config", False)
    assert rules.ignores(b"a/.git/b/c/d", True)


def test_directories_with_the_names_of_litter_are_not_ignored():
    rules = IgnoreRules()
    for name in (b"a~", b"a.tmp", b"a.bak", b"a.swp", b"Thumbs.db"):
        assert not rules.ignores(name, True)
        assert not rules.ignores(name + b"/file", False)
        assert rules.ignores(name + b"/file.tmp", False)


def test_without_defaults_nothing_is_ignored_but_our_own_directory():
    rules = IgnoreRules(defaults=False)
    assert not rules.ignores(b".hidden", False)
    assert not rules.ignores(b"a.tmp", False)
    assert rules.ignores(b".lifecycle", True)
    assert rules.ignores(b".lifecycle/root.json", False)
    assert not rules.ignores(b"sub/.lifecycle", True)


def test_the_root_is_never_ignored():
    assert not IgnoreRules(["*"]).ignores(b"", True)


def test_no_pattern_brings_our_own_directory_back():
    assert IgnoreRules(["!.lifecycle", "!*"]).ignores(b".lifecycle/trash/x", False)


# -- patterns --------------------------------------------------------------------------------------


def test_a_pattern_can_bring_back_what_the_defaults_ignore():
    rules = IgnoreRules(["!.config", "!*.bak"])
    assert not rules.ignores(b".config", True)
    assert not rules.ignores(b".config/app.toml", False)
    assert not rules.ignores(b"a.bak", False)
    assert rules.ignores(b".cache", True)
    assert rules.ignores(b"a.tmp", False)


def test_what_is_brought_back_keeps_the_rules_inside():
    rules = IgnoreRules(["!.config"])
    assert rules.ignores(b".config/.secret", False)
    assert rules.ignores(b".config/x.tmp", False)


def test_nothing_brings_back_what_lies_in_an_ignored_directory():
    rules = IgnoreRules(["build", "!build/keep", "!keep"])
    assert rules.ignores(b"build/keep", False)
    assert not rules.ignores(b"keep", False)


def test_the_last_pattern_that_matches_decides():
    assert not IgnoreRules(["*.log", "!a.log"]).ignores(b"a.log", False)
    assert IgnoreRules(["!a.log", "*.log"]).ignores(b"a.log", False)
    assert IgnoreRules(["*.log", "!a.log", "sub/a.log"]).ignores(b"sub/a.log", False)


def test_a_name_with_a_line_break_is_matched_as_a_whole():
    rules = IgnoreRules(["*.log", "a*z", "/top/?", "**/deep/x", "/all/**"])
    assert rules.ignores(b"line\nbreak/deep/x", False)
    assert rules.ignores(b"all/line\nbreak", False)
    assert rules.ignores(b"x\n.log", False)
    assert not rules.ignores(b"x.log\n", False)
    assert rules.ignores(b"a\n/z", False) is False
    assert rules.ignores(b"a\nz", False)
    assert rules.ignores(b"top/\n", False)
    assert rules.ignores(b"line\nbreak/x.log", False)


@pytest.mark.parametrize("pattern", ["/a?c", "/a[!b]c", "/a[^b]c", "/a*c", "/a[+-:]c", "/*"])
def test_only_two_asterisks_match_a_slash(pattern):
    assert not IgnoreRules([pattern, "!/a"]).ignores(b"a/c", False)


def test_text_and_odd_bytes_are_matched_by_character():
    rules = IgnoreRules(["[äö]?.txt", os.fsdecode(b"caf\xe9.*")])
    assert rules.ignores("äß.txt".encode(), False)
    assert not rules.ignores("üß.txt".encode(), False)
    assert rules.ignores(b"\xc3\xb6\xff.txt", False)
    assert rules.ignores(b"caf\xe9.jpg", False)
    assert not rules.ignores("café.jpg".encode(), False)


def test_a_pattern_of_many_asterisks_takes_no_time():
    rules = IgnoreRules(["*a" * 40 + "b", "/**/" + "*a*" * 20 + "b"])
    assert not rules.ignores(b"d/" + b"a" * 255, False)


@pytest.mark.parametrize(
    "pattern",
    ["!", "/", "a//b", "[a", "a[!]", "a\\", "[z-a]", "[[:nope:]]", "a\nb", "a\0b", "[a/b]", "//"],
)
def test_a_pattern_that_could_never_match_is_refused_by_name(pattern):
    with pytest.raises(ConfigError) as caught:
        IgnoreRules(["*.log", pattern])
    assert len(caught.value.faults) == 1
    assert repr(pattern) in caught.value.faults[0]


def test_all_malformed_patterns_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        IgnoreRules(["[a", "*.log", "b\\"])
    assert [fault.partition(":")[0] for fault in caught.value.faults] == [
        "ignore pattern '[a'",
        "ignore pattern 'b\\\\'",
    ]


def test_one_string_is_not_taken_for_patterns_of_one_character():
    with pytest.raises(TypeError):
        IgnoreRules("*.log")


# -- the hash --------------------------------------------------------------------------------------


def test_the_hash_is_of_the_meaning():
    assert len(IgnoreRules().hash) == 16
    assert IgnoreRules(["a", "b"]).hash == IgnoreRules(["a ", "", "# b", "b"]).hash
    different = [
        IgnoreRules(),
        IgnoreRules(defaults=False),
        IgnoreRules(["a", "b"]),
        IgnoreRules(["b", "a"]),
        IgnoreRules(["ab"]),
        IgnoreRules(["a/"]),
        IgnoreRules(["!a"]),
        IgnoreRules(["a", "b"], defaults=False),
    ]
    assert len({rules.hash for rules in different}) == len(different)


# -- as the walker asks ----------------------------------------------------------------------------

_NAMES = st.lists(
    st.text(alphabet=".~ab\nTk", min_size=1, max_size=4)
    | st.sampled_from(["a.tmp", "a.bak", "k.swp", "Thumbs.db", ".a.tmp", "x.log", "\udcff"]),
    max_size=6,
    unique=True,
)
_RULES = st.builds(
    IgnoreRules,
    st.lists(
        st.sampled_from(
            [
                "*.log",
                "!.a*",
                "a",
                "!a",
                "b/",
                "!b/",
                "/d/a",
                "d/*/",
                "**/k*",
                "!**",
                ".*",
                "/d/.*/",
            ]
        ),
        max_size=4,
    ),
    defaults=st.booleans(),
)


@settings(deadline=None)
@given(_RULES, _NAMES, st.sampled_from([b"", b"d", b"d/e"]))
def test_sifting_a_directory_agrees_with_asking_for_each_entry(rules, texts, directory):
    if directory and rules.ignores(directory, True):
        return
    names = sorted(text.encode("utf-8", "surrogateescape") for text in texts)
    sifted = rules.sift(directory, names, b"\0".join(names))
    for name, is_directory in itertools.product(names, (False, True)):
        of_kind = sifted.if_directory if is_directory else sifted.unless_directory
        path = directory + b"/" + name if directory else name
        assert (name in sifted.always or name in of_kind) == rules.ignores(path, is_directory)


def test_ordinary_names_are_not_looked_at_singly():
    names = [b"a.txt", b"kept", b"photo.jpg"]
    assert IgnoreRules().sift(b"", names, b"\0".join(names)) is NOTHING


# -- as git does -----------------------------------------------------------------------------------

_PIECES = (
    "a", "b", "foo", "*", "**", "a*", "?", "*.b", "[ab]", "[!a]", "[^b]", "[a-c]*", "[a-c-]",
    "[]]*", "[\\]a]", "*a*b*", "*[!x]*", "[[:digit:]a]", ".h", "\\*", "\\!a", "a\\b", "\\ ",
)  # fmt: skip
_ENTRIES = ("a", "b", "foo", "a.b", "ab", ".h", "[x]", "a b", "!a", "*", "]", "-", "7", " ")
_PATTERNS = st.builds(
    lambda negation, slash, pieces, end: negation + slash + "/".join(pieces) + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(st.sampled_from(_PIECES), min_size=1, max_size=4),
    st.sampled_from(["", "", "/", " "]),
)


@pytest.fixture(scope="module")
def git_tree(tmp_path_factory):
    """A repository with entries of all names, three levels deep; directories in every second."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    top = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "--quiet", top], check=True)
    found: dict[str, bool] = {}
    for depth in (1, 2, 3):
        above = [path for path, folder in found.items() if folder and path.count("/") == depth - 2]
        for base in above if depth > 1 else [""]:
            for number, name in enumerate(_ENTRIES):
                path = f"{base}/{name}" if base else name
                is_directory = depth < 3 and (number + depth) % 2 == 1
                (top / path).mkdir() if is_directory else (top / path).touch()
                found[path] = is_directory
    return top, found


@settings(max_examples=60, deadline=None)
@given(patterns=st.lists(_PATTERNS, min_size=1, max_size=5))
def test_git_ignores_the_same(git_tree, patterns):
    top, entries = git_tree
    (top / ".git/info/exclude").write_text("".join(f"{pattern}\n" for pattern in patterns))
    answer = subprocess.run(
        ["git", "-C", top, "check-ignore", "--no-index", "-z", "--stdin"],
        input="".join(f"{path}\0" for path in entries),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
    ).stdout
    rules = IgnoreRules(patterns, defaults=False)
    ours = {path for path, folder in entries.items() if rules.ignores(path.encode(), folder)}
    assert ours == set(answer.split("\0")) - {""}


@pytest.mark.parametrize("line", ["", "   ", "# comment", "#"])
def test_blank_lines_and_comments_are_no_patterns(line):
    assert compile_pattern(line) is None


@pytest.mark.parametrize(
    ("line", "text"), [("a  ", "a"), ("a\\ ", "a\\ "), ("a\\ \\  ", "a\\ \\ "), ("a\\\\ ", "a\\\\")]
)
def test_trailing_spaces_go_unless_they_are_escaped(line, text):
    pattern = compile_pattern(line)
    assert pattern is not None
    assert pattern.text == text
