"""Texts: what is left out, what is refused, how they are parted."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negajoule.compress.texts import BUNDLED, load_texts, split_rows
from negajoule.errors import CompressError, ConfigError

DATA = Path(os.environ.get("NEGAJOULE_DATA", Path(__file__).parents[3] / "shared/data"))


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


class TestSplit:
    @settings(max_examples=40)
    @given(
        st.lists(
            st.tuples(st.text("abc ", max_size=6), st.sampled_from(["x", "y", "z"])),
            min_size=40,
            max_size=120,
        ),
        st.integers(0, 5),
    )
    def test_parts_share_no_text_and_lose_none_but_those_named(self, rows, seed):
        usual = [(f"{label} {number}", label) for label in "xyz" for number in range(8)]
        rows = [*rows, *usual]
        found = split_rows("any", [(text, label, None) for text, label in rows], seed=seed)
        parts = [set(found.train.texts), set(found.validation.texts), set(found.test.texts)]
        assert not parts[0] & parts[1]
        assert not (parts[0] | parts[1]) & parts[2]
        usable = {text for text, _ in rows if text.strip()}
        assert set.union(*parts) <= usable
        if not found.notes:
            assert set.union(*parts) == usable == {text for text, _ in rows}
        assert set(found.train.labels) == set(range(len(found.labels)))

    def test_what_is_left_out_is_told(self):
        rows = [(f"good {n}", "good", None) for n in range(10)] + [
            (f"bad {n}", "bad", None) for n in range(10)
        ]
        rows += [("  ", "good", None), ("", "bad", None), ("good 1", "good", None), ("once", "rare", None)]
        found = split_rows("x", rows)
        assert found.labels == ("bad", "good")
        assert [note.split()[0] for note in found.notes] == ["2", "1", "labels"]
        assert "rare" in found.notes[2]

    def test_a_text_of_the_test_part_stands_in_no_other(self):
        rows = [(f"{label} {n}", label, "train") for label in "ab" for n in range(20)]
        rows += [("a 1", "a", "test"), ("b 1", "b", "test")]
        found = split_rows("x", rows)
        assert set(found.test.texts) == {"a 1", "b 1"}
        assert not set(found.test.texts) & (set(found.train.texts) | set(found.validation.texts))
        assert len(found.validation) > 0

    def test_one_label_only_is_refused(self):
        with pytest.raises(CompressError, match="only the label 'a'") as caught:
            split_rows("x", [(f"text {n}", "a", None) for n in range(20)])
        assert caught.value.code == "K102"

    def test_empty_texts_only_are_refused(self):
        with pytest.raises(CompressError, match="no usable row"):
            split_rows("x", [(" ", "a", None), ("", "b", None)])

    def test_labels_that_training_never_shows_are_refused(self):
        rows = [(f"{label} {n}", label, "train") for label in "ab" for n in range(20)]
        with pytest.raises(CompressError, match="'new'") as caught:
            split_rows("x", [*rows, ("strange", "new", "test")])
        assert caught.value.code == "K102"

    def test_fingerprint_names_texts_labels_and_parts(self):
        rows = [(f"{label} {n}", label, None) for label in "ab" for n in range(20)]
        first = split_rows("x", rows)
        assert first.fingerprint == split_rows("another name", rows).fingerprint
        assert first.fingerprint != split_rows("x", rows, seed=1).fingerprint or (
            first.train == split_rows("x", rows, seed=1).train
        )
        assert first.fingerprint != split_rows("x", [*rows, ("more", "a", None)]).fingerprint


class TestFiles:
    def test_reads_plain_and_packed_files(self, tmp_path):
        lines = [json.dumps({"text": f"{label} {n}", "label": label}) for label in "ab" for n in range(10)]
        plain = write(tmp_path / "x.jsonl", *lines)
        packed = tmp_path / "x.jsonl.gz"
        packed.write_bytes(gzip.compress("\n".join(lines).encode()))
        first, second = (load_texts(str(path), folder=tmp_path) for path in (plain, packed))
        assert first.fingerprint == second.fingerprint

    def test_keeps_a_file_s_own_parts(self, tmp_path):
        lines = [
            json.dumps({"text": f"{label} {n} {part}", "label": label, "split": part})
            for label in "ab"
            for n in range(5)
            for part in ("train", "dev", "test")
        ]
        found = load_texts(write(tmp_path / "x.jsonl", *lines), folder=tmp_path)
        assert all(text.endswith("test") for text in found.test.texts)
        assert all(text.endswith("dev") for text in found.validation.texts)

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("no json", "line 2: no JSON object"),
            ('{"text": "x"}', "line 2: text and label"),
            ('{"text": 5, "label": "a"}', "line 2: text and label"),
            ('{"text": "x", "label": "a", "split": "last"}', "split must be"),
        ],
    )
    def test_a_malformed_line_is_named(self, tmp_path, line, said):
        with pytest.raises(ConfigError, match=said) as caught:
            load_texts(write(tmp_path / "x.jsonl", '{"text": "x", "label": "a"}', line), folder=tmp_path)
        assert caught.value.code == "C106"

    def test_a_missing_file_names_the_known_sets(self, tmp_path):
        with pytest.raises(ConfigError) as caught:
            load_texts("nowhere.jsonl", folder=tmp_path)
        assert all(name in caught.value.fix for name in BUNDLED)

    def test_a_broken_archive_is_named(self, tmp_path):
        (tmp_path / "x.jsonl.gz").write_bytes(b"not gzip")
        with pytest.raises(ConfigError, match="can't be read"):
            load_texts(str(tmp_path / "x.jsonl.gz"), folder=tmp_path)

    @pytest.mark.skipif(not (DATA / "compression").exists(), reason="the study's data isn't here")
    @pytest.mark.parametrize(
        ("name", "labels"), [("sms-spam", 2), ("goemotions-polarity", 2), ("banking77", 77)]
    )
    def test_known_sets_are_read(self, name, labels):
        found = load_texts(name, folder=DATA)
        assert len(found.labels) == labels
        assert len(found.test) > 1000
