"""Every step on a tiny encoder: what it must keep, what it must change, what it must refuse."""

from __future__ import annotations

import json
import math

import msgspec
import pytest

pytest.importorskip("torch", reason="torch isn't installed: make test installs it")

import torch

from negajoule.compress.artefact import (
    ABOUT,
    Bench,
    check_reload,
    open_runner,
    read_artefact,
    size_bytes,
)
from negajoule.compress.bag import features, teach_bag
from negajoule.compress.cutter import Cutter
from negajoule.compress.distil import distil, make_student, principal_axes, recover
from negajoule.compress.encoder import blocks, find_model, has_head_for, head_size, keep_heads, load_model
from negajoule.compress.fine_tune import FineTuning, make_baseline
from negajoule.compress.prune import prune_layers, prune_neurons, spread, zero_weights
from negajoule.compress.prune_heads import prune_heads
from negajoule.compress.shape import random_shape
from negajoule.compress.steps import (
    Bag,
    Distil,
    FourBit,
    Heads,
    Int8,
    Layers,
    Neurons,
    Onnx,
    Recover,
    Shape,
    TorchInt8,
    Vocabulary,
    Zeros,
)
from negajoule.compress.vocabulary import prune_vocabulary
from negajoule.errors import CompressError


def scores(folder, texts):
    runner = open_runner(folder)
    check_reload(folder, runner)
    return torch.tensor(runner.run(texts).rows)


def right(folder, part):
    return (scores(folder, part.texts).argmax(1) == torch.tensor(part.labels)).float().mean().item()


class TestBaseline:
    def test_learns_and_reloads(self, baseline, texts):
        assert right(baseline, texts.test) > 0.9
        about = read_artefact(baseline)
        assert about.labels == texts.labels
        assert about.max_length == 32
        assert about.data == texts.fingerprint

    def test_a_head_for_these_labels_is_taken_as_it_is(self, baseline, texts, tmp_path):
        assert has_head_for(baseline, texts.labels)
        bench = Bench(source=baseline, target=tmp_path, teacher=baseline, texts=texts)
        _, losses = make_baseline(bench, "again", FineTuning(), 32)
        assert losses == []
        assert torch.equal(scores(tmp_path, texts.test.texts), scores(baseline, texts.test.texts))

    def test_labels_that_the_model_does_not_know_are_refused(self, baseline):
        with pytest.raises(CompressError, match="'ugly'") as caught:
            has_head_for(baseline, ("good", "ugly"))
        assert caught.value.code == "K102"

    def test_a_folder_without_a_model_is_refused(self, tmp_path):
        with pytest.raises(CompressError, match=r"config\.json") as caught:
            find_model(str(tmp_path))
        assert caught.value.code == "K101"

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_a_broken_model_is_refused(self, baseline, tmp_path, name):
        for file in baseline.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        (tmp_path / name).write_bytes(b"{broken")
        with pytest.raises(CompressError) as caught:
            load_model(tmp_path)
        assert caught.value.code == "K101"

    def test_a_length_beyond_the_model_s_is_refused(self, tiny, texts, tmp_path):
        bench = Bench(source=tiny, target=tmp_path, teacher=tiny, texts=texts)
        with pytest.raises(CompressError, match="at most 64"):
            make_baseline(bench, "tiny", FineTuning(), 65)

    def test_training_that_diverges_is_stopped(self, tiny, texts, tmp_path):
        bench = Bench(source=tiny, target=tmp_path, teacher=tiny, texts=texts)
        with pytest.raises(CompressError, match="diverged") as caught:
            make_baseline(bench, "tiny", FineTuning(epochs=3, rate=1e38), 32)
        assert caught.value.code == "K104"
        assert not (tmp_path / ABOUT).exists()


class TestReload:
    def test_changed_weights_are_found(self, bench, texts):
        prune_layers(Layers(keep=2), bench)
        file = bench.target / "model.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        with pytest.raises(CompressError, match="not as it was written"):
            open_runner(bench.target)

    def test_other_answers_are_found(self, bench, texts):
        prune_layers(Layers(keep=2), bench)
        about = json.loads((bench.target / ABOUT).read_text())
        about["probe_rows"][0][0] += 0.01
        (bench.target / ABOUT).write_text(json.dumps(about))
        with pytest.raises(CompressError) as caught:
            check_reload(bench.target, open_runner(bench.target))
        assert caught.value.code == "K105"

    def test_answers_that_are_no_numbers_are_found(self, bench):
        prune_layers(Layers(keep=2), bench)
        runner = open_runner(bench.target)
        with torch.no_grad():
            runner.model.classifier.bias.fill_(math.nan)
        with pytest.raises(CompressError) as caught:
            check_reload(bench.target, runner)
        assert caught.value.code == "K105"


class TestPruning:
    def test_layers_are_spread(self):
        assert spread(6, 3) == [0, 2, 4]
        assert spread(6, 2) == [0, 3]
        assert spread(4, 4) == [0, 1, 2, 3]

    def test_all_layers_kept_change_nothing(self, bench, texts):
        prune_layers(Layers(keep=4), bench)
        assert torch.equal(scores(bench.target, texts.test.texts), scores(bench.source, texts.test.texts))

    def test_more_layers_than_there_are_are_refused(self, bench):
        with pytest.raises(CompressError, match="5 layers can't stay of 4"):
            prune_layers(Layers(keep=5), bench)

    def test_neurons_go_and_their_weights_with_them(self, bench, texts):
        prune_neurons(Neurons(ratio=0.5), bench)
        model = load_model(bench.target)
        assert [(block.up.out_features, block.down.in_features) for block in blocks(model)] == [(32, 32)] * 4
        assert model.config.intermediate_size == 32
        scores(bench.target, texts.test.texts)

    def test_the_neurons_that_stay_are_those_of_large_norm(self, bench):
        before = load_model(bench.source)
        prune_neurons(Neurons(ratio=0.5), bench)
        after = load_model(bench.target)
        old, new = blocks(before)[0], blocks(after)[0]
        norms = old.up.weight.pow(2).sum(1) + old.down.weight.pow(2).sum(0)
        kept = [int((old.up.weight == row).all(1).nonzero()[0]) for row in new.up.weight]
        gone = sorted(set(range(64)) - set(kept))
        assert norms[kept].mean() > norms[gone].mean()

    def test_a_head_taken_out_equals_a_head_that_says_nothing(self, baseline, texts):
        silent, without = load_model(baseline), load_model(baseline)
        size = head_size(silent.config)
        for one, other in zip(blocks(silent), blocks(without), strict=True):
            with torch.no_grad():
                one.out.weight[:, size : 2 * size] = 0
            keep_heads(other, [0, 2, 3], size)
        batch = torch.tensor([[2, 5, 6, 7, 3]])
        with torch.no_grad():
            assert torch.allclose(silent(batch).logits, without(batch).logits, atol=1e-6)

    def test_heads_go_and_the_model_loads_again(self, bench, texts):
        prune_heads(Heads(ratio=0.5, texts=32), bench)
        model = load_model(bench.target)
        assert [block.query.out_features for block in blocks(model)] == [16] * 4
        scores(bench.target, texts.test.texts)

    def test_heads_then_layers_then_onnx(self, bench, next_bench, texts):
        from negajoule.compress.onnx_files import to_onnx

        prune_heads(Heads(ratio=0.25, texts=16), bench)
        second = next_bench()
        prune_layers(Layers(keep=2), second)
        third = msgspec.structs.replace(second, source=second.target, target=second.target.parent / "third")
        third.target.mkdir()
        to_onnx(Onnx(), third)
        difference = scores(third.target, texts.test.texts) - scores(second.target, texts.test.texts)
        assert difference.abs().max() < 1e-4

    @pytest.mark.parametrize(
        ("step", "function"), [(Heads(ratio=1.0), prune_heads), (Neurons(ratio=1.0), prune_neurons)]
    )
    def test_nothing_left_is_refused(self, bench, step, function):
        with pytest.raises(CompressError) as caught:
            function(step, bench)
        assert caught.value.code == "K101"

    def test_single_weights_save_nothing_on_disk(self, bench):
        zero_weights(Zeros(ratio=0.5), bench)
        model = load_model(bench.target)
        share = sum((block.up.weight == 0).sum().item() for block in blocks(model)) / (4 * 64 * 32)
        assert share == pytest.approx(0.5, abs=0.02)
        assert size_bytes(bench.target) == pytest.approx(size_bytes(bench.source), rel=0.01)

    def test_the_vocabulary_shrinks_and_the_training_texts_answers_stay(self, bench, texts):
        prune_vocabulary(Vocabulary(), bench)
        before, after = Cutter(bench.source, 32), Cutter(bench.target, 32)
        assert after.vocabulary_size < before.vocabulary_size
        assert load_model(bench.target).config.vocab_size == after.vocabulary_size
        assert torch.equal(scores(bench.target, texts.train.texts), scores(bench.source, texts.train.texts))

    def test_a_word_whose_token_is_gone_falls_apart(self, bench):
        prune_vocabulary(Vocabulary(), bench)
        assert len(Cutter(bench.source, 32).cut(["sunday"])[0]) == 3 + 3
        assert len(Cutter(bench.target, 32).cut(["unused7"])[0]) >= 3

    def test_another_tokenizer_is_refused(self, bench, tmp_path):
        source = tmp_path / "other"
        source.mkdir()
        for file in bench.source.iterdir():
            (source / file.name).write_bytes(file.read_bytes())
        data = json.loads((source / "tokenizer.json").read_text())
        data["model"] = {"type": "BPE", "vocab": {}, "merges": []}
        (source / "tokenizer.json").write_text(json.dumps(data))
        about = json.loads((source / ABOUT).read_text())
        about["files"] = {}
        (source / ABOUT).write_text(json.dumps(about))
        with pytest.raises(CompressError, match="BPE"):
            prune_vocabulary(Vocabulary(), msgspec.structs.replace(bench, source=source))

    def test_distilbert_is_understood_and_others_refused(self):
        import transformers

        small = transformers.DistilBertConfig(
            vocab_size=50, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=32
        )
        model = transformers.DistilBertForSequenceClassification(small).eval()
        for block in blocks(model):
            keep_heads(block, [1, 3], head_size(model.config))
        assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 2)
        strange = transformers.AlbertForSequenceClassification(
            transformers.AlbertConfig(
                vocab_size=50, hidden_size=32, num_attention_heads=4, intermediate_size=64, embedding_size=16
            )
        )
        with pytest.raises(CompressError, match="Albert"):
            blocks(strange)


class TestDistillation:
    def test_a_student_of_fewer_layers_keeps_the_answers(self, bench, texts):
        distil(Distil(layers=2, epochs=6, rate=3e-3, batch=16), bench)
        student, teacher = load_model(bench.target), load_model(bench.source)
        assert student.config.num_hidden_layers == 2
        assert torch.equal(student.get_input_embeddings().weight, teacher.get_input_embeddings().weight)
        assert not torch.equal(blocks(student)[0].up.weight, blocks(teacher)[0].up.weight)
        assert right(bench.target, texts.test) > 0.9

    def test_a_student_of_another_width_learns(self, bench, texts):
        distil(Distil(layers=2, hidden=16, heads=2, epochs=12, rate=1e-2, batch=16), bench)
        config = load_model(bench.target).config
        assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (16, 2, 32)
        assert right(bench.target, texts.test) > 0.8

    def test_principal_axes_keep_what_differs_most(self):
        torch.manual_seed(0)
        vectors = torch.randn(200, 8) * torch.tensor([9.0, 7.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
        axes = principal_axes(vectors, 2)
        assert torch.allclose(axes.T @ axes, torch.eye(2), atol=1e-5)
        assert axes[:2].abs().sum() > 1.9

    @pytest.mark.parametrize(
        "step", [Distil(layers=5), Distil(layers=2, hidden=64), Distil(hidden=30, heads=4)]
    )
    def test_shapes_that_cannot_be_had_are_refused(self, baseline, step):
        with pytest.raises(CompressError) as caught:
            make_student(step, load_model(baseline))
        assert caught.value.code == "K101"

    def test_a_teacher_whose_scores_are_no_numbers_is_refused(self, bench, tmp_path):
        prune_layers(Layers(keep=4), bench)
        model = load_model(bench.target)
        with torch.no_grad():
            model.classifier.bias.fill_(math.nan)
        model.save_pretrained(bench.target)
        about = json.loads((bench.target / ABOUT).read_text())
        about["files"] = {}
        (bench.target / ABOUT).write_text(json.dumps(about))
        target = tmp_path / "student"
        target.mkdir()
        with pytest.raises(CompressError, match="teacher") as caught:
            distil(Distil(layers=2), msgspec.structs.replace(bench, teacher=bench.target, target=target))
        assert caught.value.code == "K104"

    def test_recovery_brings_answers_back(self, bench, next_bench, texts):
        prune_layers(Layers(keep=1), bench)
        second = next_bench()
        recover(Recover(epochs=6, rate=3e-3, batch=16), second)
        agree = [
            (
                scores(folder, texts.train.texts).argmax(1)
                == scores(bench.teacher, texts.train.texts).argmax(1)
            )
            .float()
            .mean()
            .item()
            for folder in (bench.target, second.target)
        ]
        assert agree[1] >= max(agree[0], 0.9)

    def test_a_bag_learns_the_teacher_s_answers(self, bench, texts):
        teach_bag(Bag(width=8, pairs=64, epochs=30, rate=0.05), bench)
        assert right(bench.target, texts.test) > 0.9
        assert read_artefact(bench.target).kind == "bag"

    def test_pairs_never_cross_the_edge_of_two_texts(self):
        together, starts = features([[1, 2], [3], [4, 5, 6]], 10, 97)
        alone = [features([ids], 10, 97)[0].tolist() for ids in ([1, 2], [3], [4, 5, 6])]
        assert together.tolist() == [row for rows in alone for row in rows]
        assert starts.tolist() == [0, 3, 4]
        assert features([[1, 2], [3]], 10, 0)[0].tolist() == [1, 2, 3]


class TestShape:
    def test_has_the_shape_and_random_weights(self, bench):
        random_shape(Shape(layers=1, hidden=16, heads=2, neurons=24), bench)
        model = load_model(bench.target)
        assert [(block.query.in_features, block.up.out_features) for block in blocks(model)] == [(16, 24)]
        assert "random" in read_artefact(bench.target).steps[-1]


class TestQuantising:
    @pytest.fixture(autouse=True)
    def _needs_onnx(self):
        pytest.importorskip("onnxruntime", reason="onnxruntime isn't installed: make test installs it")
        pytest.importorskip("onnx", reason="onnx isn't installed: make test installs it")

    def test_the_engine_alone_changes_no_score(self, bench, texts):
        from negajoule.compress.onnx_files import to_onnx

        to_onnx(Onnx(), bench)
        difference = scores(bench.target, texts.test.texts) - scores(bench.source, texts.test.texts)
        assert difference.abs().max() < 1e-4

    @pytest.mark.parametrize(
        ("step", "name"),
        [
            (Int8(), "to_int8"),
            (Int8(per_channel=True), "to_int8"),
            (Int8(ranges="static", texts=32), "to_int8"),
            (FourBit(), "to_four_bits"),
        ],
        ids=["dynamic", "per channel", "static", "4 bits"],
    )
    def test_fewer_bits_answer_alike(self, bench, texts, step, name):
        import onnx

        from negajoule.compress import onnx_files

        getattr(onnx_files, name)(step, bench)
        same = scores(bench.target, texts.test.texts).argmax(1) == scores(
            bench.source, texts.test.texts
        ).argmax(1)
        assert same.float().mean() >= 0.9
        graph = onnx.load(bench.target / "model.onnx").graph
        kinds = {weights.data_type for weights in graph.initializer}
        small = onnx.TensorProto.UINT8 if name == "to_four_bits" else onnx.TensorProto.INT8
        assert small in kinds

    def test_an_onnx_file_cannot_be_exported_again(self, bench, next_bench):
        from negajoule.compress.onnx_files import to_int8

        to_int8(Int8(), bench)
        with pytest.raises(CompressError, match="kind onnx"):
            to_int8(Int8(), next_bench())

    def test_int8_in_torch_reloads_from_its_file(self, bench, texts):
        from negajoule.compress.torch_int8 import to_torch_int8

        to_torch_int8(TorchInt8(), bench)
        same = scores(bench.target, texts.test.texts).argmax(1) == scores(
            bench.source, texts.test.texts
        ).argmax(1)
        assert same.float().mean() >= 0.9
        assert read_artefact(bench.target).kind == "torch-int8"
