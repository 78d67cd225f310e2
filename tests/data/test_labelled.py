"""Labelled sets: every way in, the order that is reported, the split that shares no text, and the mistakes."""

import csv
import json
import logging
from collections import Counter
from pathlib import Path

import datasets
import pytest
from sklearn.model_selection import train_test_split

from ftkit.data import LabelledTexts, load_labelled, separate_labelled, split_labelled
from ftkit.errors import DataError, NetworkError

ROWS = [
    ("a fine, gentle film", "good"),
    ('it says "never again"\nand means it', "bad"),
    ("warm; funny", "good"),
    ("dull", "bad"),
]


def write_csv(path: Path, rows, head=("text", "label"), **options) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, **options).writerows([head, *rows])
    return str(path)


def labelled(counts: dict[str, int], repeat: int = 1) -> LabelledTexts:
    """Texts of some classes one after the other, each text ``repeat`` times."""
    rows = [
        (f"{name} {number // repeat}", place)
        for place, (name, count) in enumerate(counts.items())
        for number in range(count)
    ]
    return LabelledTexts("made", "made", *zip(*rows, strict=True), tuple(counts))


@pytest.fixture
def ways(tmp_path: Path) -> dict[str, str]:
    """The same rows in every form."""
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS), encoding="utf-8"
    )
    datasets.Dataset.from_dict({"text": [t for t, _ in ROWS], "label": [name for _, name in ROWS]}).to_parquet(
        tmp_path / "hub" / "train.parquet"
    )
    return {
        "csv": write_csv(tmp_path / "rows.csv", ROWS),
        "semicolons": write_csv(tmp_path / "semicolons.csv", ROWS, delimiter=";"),
        "tsv": write_csv(tmp_path / "rows.tsv", ROWS, delimiter="\t"),
        "marked": write_csv(tmp_path / "marked.csv", ROWS, head=("\ufefftext", "label")),
        "other names": write_csv(tmp_path / "named.csv", [(1, *row) for row in ROWS], ("id", "review", "mood"))
        + "#review,mood",
        "jsonl": str(tmp_path / "rows.jsonl"),
        "hub": f"hub:{tmp_path / 'hub'}",
    }


@pytest.mark.parametrize("way", ["csv", "semicolons", "tsv", "marked", "other names", "jsonl", "hub"])
def test_every_table_gives_the_same_texts_and_classes(ways, way):
    found = load_labelled(ways[way])
    assert found.texts == tuple(text for text, _ in ROWS)
    assert found.classes == ("bad", "good")
    assert [found.classes[label] for label in found.labels] == [label for _, label in ROWS]
    assert found.counts == {"bad": 2, "good": 2}


def test_a_folder_of_folders_and_files_by_class(tmp_path):
    for name, text in (
        ("neg/1.txt", "dull\nand long"),
        ("neg/2.txt", "bad"),
        ("pos/1.txt", "fine"),
        ("unsup/1.txt", "x"),
    ):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text(text)
    chosen = load_labelled(f"{tmp_path / 'set'}#neg,pos")
    assert chosen.texts == ("dull\nand long", "bad", "fine")
    assert chosen.classes == ("neg", "pos")
    assert load_labelled(str(tmp_path / "set")).counts == {"neg": 2, "pos": 1, "unsup": 1}
    (tmp_path / "good.txt").write_text("one\n\n two \r\nthree")
    (tmp_path / "bad.txt").write_text("four\n")
    lines = load_labelled({"good": str(tmp_path / "good.txt"), "bad": str(tmp_path / "bad.txt")})
    assert lines.texts == ("one", "two", "three", "four")
    assert (lines.classes, lines.labels) == (("good", "bad"), (0, 0, 0, 1))


def test_voices_give_a_text_for_each_paragraph():
    found = load_labelled({"keeper": "voices:keeper:2000", "almanac": "voices:almanac:2000"})
    assert min(found.counts.values()) > 10
    assert sum(len(text.split()) for text in found.texts) >= 4000


def test_classes_of_a_data_set_keep_their_names_and_order(tmp_path):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])})
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}, features=features)
    data.save_to_disk(tmp_path / "saved")
    data.to_parquet(tmp_path / "set" / "train.parquet")
    found = load_labelled(f"hub:{tmp_path / 'set'}")
    assert found.classes == ("pos", "neg")
    assert found.labels == (1, 0, 1)
    unlabelled = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, -1]}, features=features)
    unlabelled.to_parquet(tmp_path / "none" / "train.parquet")
    with pytest.raises(DataError, match="row 1: the label is nothing"):
        load_labelled(f"hub:{tmp_path / 'none'}")


def test_numbers_are_classes_in_their_order(tmp_path):
    rows = [{"text": f"text {n}", "label": value} for n, value in enumerate([10, 2, 2.0, "10", 9])]
    (tmp_path / "stars.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert load_labelled(str(tmp_path / "stars.jsonl")).classes == ("2", "9", "10")


def test_sorted_labels_are_reported_and_shuffled(tmp_path, caplog):
    """IMDB's order (lessons 07/015 to 07/019): the first rows hold one class."""
    rows = [(f"text {n}", "neg" if n < 500 else "pos") for n in range(1000)]
    with caplog.at_level(logging.WARNING):
        found = load_labelled(write_csv(tmp_path / "imdb.csv", rows))
    assert found.label_changes == 1
    assert found.expected_changes == 500
    assert "sorted by label: the class changes 1 times in 1,000 texts, in a random order about 500 times" in caplog.text
    split = split_labelled(found, seed=1)
    assert split.order == tuple(found.label_order())
    assert [stretch["first"] for stretch in split.order] == list(range(0, 1000, 20))
    assert [stretch["shares"] for stretch in split.order] == 25 * [{"neg": 1, "pos": 0}] + 25 * [{"neg": 0, "pos": 1}]
    assert [round(stretch["shares"]["a"], 2) for stretch in LabelledTexts(
        "", "", ("x",) * 3, (0, 1, 0), ("a", "b")
    ).label_order(2)] == [1.0, 0.5]  # fmt: skip
    for side in (split.train, split.test):
        assert not side.sorted_by_label
        assert abs(Counter(side.labels[:100])[0] - 50) < 25
    caplog.clear()
    load_labelled(write_csv(tmp_path / "mixed.csv", [(f"text {n}", "ab"[n * 7 % 13 % 2]) for n in range(1000)]))
    assert "sorted" not in caplog.text


def test_a_split_has_the_classes_shares_as_scikit_learns_has():
    data = labelled({"a": 300, "b": 90, "c": 10})
    split = split_labelled(data, heldout_share=0.2, seed=3)
    _, reference = train_test_split(data.labels, test_size=0.2, stratify=data.labels, random_state=0)
    assert split.test.counts == {data.classes[label]: count for label, count in sorted(Counter(reference).items())}
    assert sorted(split.train.texts + split.test.texts) == sorted(data.texts)
    assert not set(split.train.texts) & set(split.test.texts)
    assert split == split_labelled(data, heldout_share=0.2, seed=3)
    assert split.test != split_labelled(data, heldout_share=0.2, seed=4).test


def test_repeated_texts_never_stand_on_both_sides():
    texts = [f"{'  ' * (n % 2)}Text {n // 3}" if n % 3 else f"TEXT   {n // 3}" for n in range(600)]
    data = LabelledTexts("made", "made", tuple(texts), tuple(n // 3 % 2 for n in range(600)), ("a", "b"))
    split = split_labelled(data, heldout_share=0.25, seed=0)
    kinds = [{" ".join(text.lower().split()) for text in side.texts} for side in (split.train, split.test)]
    assert not kinds[0] & kinds[1]
    assert len(kinds[0] | kinds[1]) == split.repeated == 200
    assert split.test.counts == {"a": 75, "b": 75}


def test_a_test_set_of_its_own_takes_its_texts_out_of_the_training_texts(caplog):
    train, test = labelled({"a": 40, "b": 40}), labelled({"a": 5, "b": 5})
    split = separate_labelled(train, test)
    assert split.train.counts == {"a": 35, "b": 35}
    assert sorted(split.test.texts) == sorted(test.texts)
    assert "10 of 80 texts to learn from stand in the test set too" in caplog.text
    with pytest.raises(DataError, match="no text of the class 'a' is left"):
        separate_labelled(test, train)


def test_a_text_in_two_classes_is_counted_and_stays_on_one_side(caplog):
    data = LabelledTexts("made", "made", ("x", "y", "X", "z", "w"), (0, 0, 1, 1, 1), ("a", "b"))
    split = split_labelled(data, heldout_share=0.5)
    assert split.contradicted == 1
    assert "1 texts stand in made in several classes" in caplog.text
    assert ("x" in split.test.texts) == ("X" in split.test.texts)


def test_samples_are_balanced_or_in_proportion():
    data = split_labelled(labelled({"a": 800, "b": 200})).train
    assert data.counts == {"a": 640, "b": 160}
    assert data.first_of_each(100).counts == {"a": 100, "b": 100}
    assert data.stratified(200).counts == {"a": 160, "b": 40}
    assert data.stratified(10_000) is data
    assert set(data.stratified(200).texts) <= set(data.stratified(400).texts)


@pytest.mark.parametrize(
    ("rows", "head", "choice", "said"),
    [
        (ROWS, ("text", "lable"), "", "no column 'label'; did you mean 'lable'"),
        (ROWS, ("text", "label"), "#text,sentiment", "no column 'sentiment'. Columns: text, label"),
        (ROWS, ("review", "stars"), "", "as FILE#TEXT,LABEL, e.g. FILE#review,stars"),
        (ROWS, ("text", "label"), "#text", "'text' does not name two columns"),
        ([("a", "x"), ("b", "x")], ("text", "label"), "", "all 2 texts have the class 'x'"),
        ([("a", "x"), ("b", "")], ("text", "label"), "", "line 3: the label is nothing"),
        ([(f"{n}", f"{n}.5") for n in range(40)], ("text", "label"), "", "40 different labels in 40 texts"),
        ([("a", "x"), ("b", "y", "z")], ("text", "label"), "", "line 3: 3 fields, the first line names 2"),
        ([], ("text", "label"), "", "no texts at all"),
        ([(" ", "x"), ("", "y")], ("text", "label"), "", "no texts at all"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, rows, head, choice, said):
    with pytest.raises(DataError) as error:
        load_labelled(write_csv(tmp_path / "rows.csv", rows, head) + choice)
    assert said in str(error.value)


def test_other_mistakes_say_what_is_there(tmp_path):
    write_csv(tmp_path / "reviews.csv", ROWS)
    (tmp_path / "broken.jsonl").write_text('{"text": "a", "label": 1}\n{"text": \n')
    (tmp_path / "open.csv").write_text('text,label\n"never closed,x\n')
    (tmp_path / "plain.txt").write_text("one\n")
    (tmp_path / "folder" / "neg").mkdir(parents=True)
    cases = {
        "review.csv": "did you mean 'reviews.csv'",
        "broken.jsonl": "line 2: no JSON",
        "open.csv": "no table",
        "plain.txt": "plain text, not a table of texts and labels",
        "folder": "has a sub-folder for each class, two or more; found neg",
        "folder#neg,poss": "no sub-folder 'poss'",
    }
    for name, said in cases.items():
        with pytest.raises(DataError) as error:
            load_labelled(str(tmp_path / name))
        assert said in str(error.value), name
    with pytest.raises(DataError, match="the label 'good'; there is: bad, fine"):
        load_labelled(str(tmp_path / "reviews.csv"), classes=["bad", "fine"])
    with pytest.raises(NetworkError, match="not in the cache"):
        load_labelled("hub:owner/no-such-set#text,label")
    with pytest.raises(DataError, match="1 different text of the class 'b'"):
        split_labelled(LabelledTexts("m", "m", ("x", "y", "z", "Z"), (0, 0, 1, 1), ("a", "b")))


def test_labels_that_differ_in_case_or_space_only_stop_unless_they_are_merged(tmp_path):
    labels = ["pos", "neg", "Pos", "pos", "NEG ", "neg", "a b", "a  b", "a b"]
    rows = [(f"text {n}", label) for n, label in enumerate(labels)]
    path = write_csv(tmp_path / "rows.csv", rows)
    with pytest.raises(
        DataError, match=r"'pos' \(2\) and 'Pos' \(1\); .*'NEG ' \(1\); 'a b' \(2\).*merge_labels: true"
    ):
        load_labelled(path)
    merged = load_labelled(path, merge_labels=True)
    assert merged.counts == {"a b": 3, "neg": 3, "pos": 3}
    test = load_labelled(write_csv(tmp_path / "test.csv", [("x", "POS"), ("y", "neg"), ("z", "A B")]),
                         classes=merged.classes, merge_labels=True)  # fmt: skip
    assert [test.classes[label] for label in test.labels] == ["pos", "neg", "a b"]
    spaced = write_csv(tmp_path / "spaced.csv", [("x", " pos"), ("y", "neg ")])
    assert load_labelled(spaced).classes == ("neg", "pos")  # white space alone tells no two classes apart


def test_text_or_labels_with_half_a_surrogate_pair_are_one_line(tmp_path):
    for row in ('{"text": "a \\ud83d", "label": 1}', '{"text": "a", "label": "\\ud83d"}'):
        (tmp_path / "rows.jsonl").write_text('{"text": "b", "label": 0}\n' + row)
        with pytest.raises(DataError, match=r"line 2: half of a surrogate pair"):
            load_labelled(str(tmp_path / "rows.jsonl"))
    (tmp_path / "rows.jsonl").write_text('{"text": "\\ud83d\\ude00", "label": 1}\n{"text": "b", "label": 0}')
    assert load_labelled(str(tmp_path / "rows.jsonl")).texts == ("\U0001f600", "b")
