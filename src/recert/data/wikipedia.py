"""Real text for language modelling: WikiText-2 through `datasets`, or an excerpt inside gensim.

The excerpt is a part of an English Wikipedia dump of 2016 that the PyPI package gensim carries
among its test data (text CC BY-SA). It is read as a file; gensim is never imported.
"""

from __future__ import annotations

import bz2
import html
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recert.data import packages
from recert.errors import FileError, MissingDependencyError

GENSIM = "gensim==4.4.0"
EXCERPT = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
SOURCES = ("auto", "datasets", "gensim")

# The excerpt has 6 MB; what expands to more than this is something else.
LARGEST = 64 * 2**20
_CHUNK = 1 << 20
# A paragraph of prose has at least this many characters.
_SHORTEST = 80

_PAGE = re.compile(r"<title>([^<]*)</title>.*?<text[^>]*>(.*?)</text>", re.DOTALL)
_DROPPED = re.compile(
    r"<!--.*?-->|<ref[^>]*/>|<ref.*?</ref>|<math.*?</math>|<[^>]*>|\{\|.*?\|\}|__\w+__|'{2,}",
    re.DOTALL,
)
_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_FILE = re.compile(r"\[\[(?:File|Image|Category)[^\[\]]*(?:\[\[[^\]]*\]\][^\[\]]*)*\]\]")
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]]*)\]\]")
_OUTSIDE = re.compile(r"\[\w+://\S*\s?([^\]]*)\]")
_MARK = re.compile(r"([^\w\s])")


def find(source: str = "auto") -> tuple[str, str]:
    """Text in WikiText's form (headings ``= Title =``, a paragraph a line), and what it is.

    Args:
        source: "datasets", WikiText-2 through that library; "gensim"; or "auto", the first that is
            there.

    Raises:
        MissingDependencyError: neither is there; the message says what to do.
        FileError: gensim's file is missing or is not what it should be, or "datasets" is asked for
            and can't load the text.
    """
    missed = False
    if source == "datasets" or (source == "auto" and find_spec("datasets") is not None):
        try:
            return wikitext(), "WikiText-2 (raw), training part, through the library datasets"
        except FileError:
            if source == "datasets":
                raise
            missed = True
    why = "datasets could not load WikiText-2" if missed else ""
    try:
        found = excerpt()
    except MissingDependencyError:
        raise MissingDependencyError(
            f"no text to train on{why and f' ({why})'}: give a file with --data-path (such as "
            f"WikiText-2's), or {'' if missed else 'pip install datasets, or '}"
            f"pip install --no-deps {GENSIM}"
        ) from None
    return found, f"an excerpt of the English Wikipedia inside gensim{why and f', as {why}'}"


def wikitext() -> str:
    """WikiText-2's training part, from the hub or the library's cache.

    Without a network the library goes on trying for half a minute, and then looks in its cache;
    with HF_HUB_OFFLINE=1 it looks there at once.

    Raises:
        MissingDependencyError: the library is not installed.
        FileError: there is no network, and nothing in the cache.
    """
    if find_spec("datasets") is None:
        raise MissingDependencyError("the library datasets is not installed; pip install datasets")
    try:
        return _downloaded()
    except Exception as error:
        # The library fails in many ways where it has no network.
        reason = " ".join(str(error).split())[:200]
        raise FileError(
            f"datasets could not load WikiText-2 ({reason}); give a file with --data-path, or use "
            "source gensim"
        ) from None


def excerpt(path: str | Path | None = None) -> str:
    """The Wikipedia excerpt inside gensim as plain text.

    Args:
        path: another bzip2 file of the same form; None for the installed package's.

    Raises:
        MissingDependencyError: gensim is not installed.
        FileError: the file is missing, damaged, too large, or holds no article.
    """
    file = packages.file_of("wikipedia", "gensim", GENSIM, "test", "test_data", EXCERPT)
    return plain(_decompressed(Path(path or file)), str(path or file))


def plain(dump: str, name: str = "the dump") -> str:
    """A MediaWiki dump's articles in WikiText's form; FileError if there is none."""
    articles = []
    for title, text in _PAGE.findall(dump):
        if text.lstrip().lower().startswith("#redirect"):
            continue
        paragraphs = [p for p in map(str.strip, _stripped(text).splitlines()) if _is_prose(p)]
        if paragraphs:
            heading = f"= {html.unescape(title)} ="
            articles.append("\n\n".join([heading, *map(_spaced, paragraphs)]))
    if not articles:
        raise FileError(f"{name} holds no article of a MediaWiki dump; give another file")
    return "\n\n".join(articles) + "\n"


def _stripped(text: str) -> str:
    """Article text without markup."""
    text = _DROPPED.sub(" ", html.unescape(text))
    for _ in range(8):  # templates within templates
        text, count = _TEMPLATE.subn(" ", text)
        if not count:
            break
    return _OUTSIDE.sub(r"\1", _LINK.sub(r"\1", _FILE.sub(" ", text)))


def _is_prose(paragraph: str) -> bool:
    return len(paragraph) >= _SHORTEST and paragraph[0] not in "=|*#:;!{}["


def _spaced(paragraph: str) -> str:
    """Punctuation as words of its own, as in WikiText."""
    return " ".join(_MARK.sub(r" \1 ", paragraph).split())


def _decompressed(path: Path) -> str:
    data = bytearray()
    try:
        with bz2.open(path) as file:
            while chunk := file.read(_CHUNK):
                data += chunk
                if len(data) > LARGEST:
                    raise FileError(f"{path} expands to more than {LARGEST} bytes; it isn't used")
        return data.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read {path}: {error}; reinstall gensim") from None


@contextmanager
def _quiet(*libraries: str) -> Iterator[None]:
    """Without the warnings of libraries, such as one at each attempt to reach a host."""
    loggers = [logging.getLogger(name) for name in libraries]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _downloaded() -> str:
    import datasets  # type: ignore[import-not-found, unused-ignore]

    # Their import sets the levels of the loggers anew.
    with _quiet("datasets", "huggingface_hub"):
        rows: Any = datasets.load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1", split="train")
    return lines(rows["text"])


def lines(rows: Iterable[str]) -> str:
    """The text of which each row is a line; blank lines are rows without a line's end."""
    return "".join(f"{row.rstrip()}\n" for row in rows)
