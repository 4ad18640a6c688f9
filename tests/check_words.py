"""Report words and phrases that the project does not use, in texts of the repository; exit status 1 if there are any.

The check reads Markdown and HTML, and the comments and strings of Python files. It finds the patterns of ``PATTERNS``
only; CONTRIBUTING describes how the project writes.

Usage: python tests/check_words.py [FILE_OR_FOLDER ...]
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: What is rejected, and what to write instead. The names of accounts and functions in backticks are left alone.
PATTERNS = {
    r"(?<!there )\b(is|was|are|were|be|being) (no (?!longer\b|more\b|less\b|later\b|earlier\b|way\b)|(?-i:none)\b)": (
        "'is not a', 'invalid', or 'no ... found'"
    ),
    r"\bwhoever\b|\bwhosoever\b|\bwhomever\b": "name the actor",
    r"\b(somebody|anybody|everybody|someone else's)\b": "name the actor: the user, the client, the server",
    r"(?<!['\"])\bnobody\b(?!['\"])": "name the actor, or 'no client', 'no other user'",
    r"\b(farewells?|heed(s|ed)?|mend(s|ed|ing)?|amid|borne|lest|alas|hearken|anew)\b": "a plain word",
    r"\b(is|are|was|were|been|be) told\b": "'shown', 'given', 'told' has no actor: say who tells",
    r"\bhears? of\b|\bhas heard\b": "'is called', 'is notified'",
    r"\bmake(s)? way\b|\bin vain\b|\bfor good measure\b": "a plain word",
    r"(?:^|[.:;] )One that\b": "name the thing",
    r"\bin the clear\b": "'unencrypted'",
    r"\b(costs|cost) (its|the) \w+ (its|the) place\b": "'is disabled'",
    r"\bnothing to do with\b|\bhas no business\b|'s business\b": "say what is not used",
}
_REJECTED = [(re.compile(pattern, re.IGNORECASE | re.MULTILINE), instead) for pattern, instead in PATTERNS.items()]
_SUFFIXES = {".py", ".md", ".html"}
#: Files that hold the patterns themselves, or that describe earlier states.
_EXEMPT = {"tests/check_words.py"}


def texts_of(file: Path) -> Iterator[tuple[int, str]]:
    """Yield each text of a file with the number of its first line: comments and strings of Python, else everything."""
    source = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        yield 1, re.sub(r"`[^`\n]*`", "``", source)
        return
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING) or token.type == getattr(
                tokenize, "FSTRING_MIDDLE", -1
            ):
                yield token.start[0], re.sub(r"`+[^`\n]*`+", "``", token.string)
    except tokenize.TokenError:  # a template
        yield 1, source


def findings(file: Path) -> Iterator[str]:
    """Yield a line for each rejected phrase of a file."""
    shown = file.relative_to(ROOT).as_posix()
    for start, text in texts_of(file):
        for pattern, instead in _REJECTED:
            for found in pattern.finditer(text):
                line = start + text.count("\n", 0, found.start())
                yield f"{shown}:{line}: {' '.join(found.group().split())!r}: {instead}"


def files_of(places: list[str]) -> Iterator[Path]:
    """Yield the files of the repository, or those at ``places``, whose texts are checked."""
    listed = subprocess.run(
        ["git", "ls-files", "--", *places], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        file = ROOT / name
        if file.suffix in _SUFFIXES and name not in _EXEMPT and file.is_file():
            yield file


def main(places: list[str]) -> int:
    """Print what is found; return the exit status."""
    found = [line for file in files_of(places) for line in findings(file)]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
