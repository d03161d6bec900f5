"""Traces: read in every format, made by every law, written for Vidur; and what can't be one."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from negajoule.errors import ConfigError
from negajoule.simulate import (
    FixedLengths,
    LengthsOf,
    LognormalLengths,
    Trace,
    bursts,
    diurnal,
    fixed,
    markov_modulated,
    poisson,
    read_trace,
    uniform,
    write_vidur,
)

DATA = Path(os.environ.get("NEGAJOULE_DATA", "../shared/data")) / "serving"
SHORT = FixedLengths(10, 5)

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
"""
MOONCAKE = (
    "timestamp_ms,input_length,output_length,n_blocks,prefix_blocks_seen\n0,6758,500,14,0\n3000,6758,9,14,2\n"
)
MOONCAKE_LINES = """{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [1, 2, 3]}
{"timestamp": 2000, "input_length": 1400, "output_length": 6, "hash_ids": [1, 2, 9]}
{"timestamp": 2500, "input_length": 600, "output_length": 7, "hash_ids": [8, 2]}
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,GPT-4,1087,0,1087,API log
46.5,GPT-4,10,230,240,API log
"""
PLAIN = "arrival_s,prompt_tokens,answer_tokens,class\n3,10,20,batch\n0,11,21,chat\n"
SERVEGEN = (
    "client,0,1,2,3,4,5\n0,0,2.0,1.0,Gamma,0.7,0.1\n0,600,0.0,0.0,,0.0,0.0\n1,600,1.0,1.0,Weibull,0.8,1\n"
)
VLLM = {"input_lens": [5, 6], "output_lens": [7, 8], "start_times": [100.5, 101.0], "ttfts": [0.1, 0.1]}
GUIDELLM = {
    "benchmarks": [
        {
            "requests": {
                "successful": [
                    {"info": {"timings": {"request_start": 50.0}}, "prompt_tokens": 9, "output_tokens": 4},
                    {"start_time": 52.0, "prompt_tokens": 8, "output_tokens": 3},
                ],
                "errored": [{"start_time": 53.0, "prompt_tokens": 8, "output_tokens": None}],
                "incomplete": None,
            }
        }
    ]
}


def read(tmp_path, text, name="trace.csv", **options):
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return read_trace(path, **options)


@pytest.mark.parametrize(
    ("text", "times", "prompts", "answers"),
    [
        (AZURE, [0, 4.314579], [374, 396], [44, 109]),
        (MOONCAKE, [0, 3], [6758, 6758], [500, 9]),
        (MOONCAKE_LINES, [0, 2, 2.5], [1100, 1400, 600], [5, 6, 7]),
        (BURSTGPT, [0, 41.5], [472, 10], [18, 230]),
        (PLAIN, [0, 3], [11, 10], [21, 20]),
        (VLLM, [0, 0.5], [5, 6], [7, 8]),
        (GUIDELLM, [0, 2], [9, 8], [4, 3]),
    ],
)
def test_every_format_is_told_by_its_columns(tmp_path, text, times, prompts, answers):
    trace = read(tmp_path, text)
    np.testing.assert_allclose(trace.arrival_s, times, atol=1e-6)
    assert trace.prompt_tokens.tolist() == prompts
    assert trace.answer_tokens.tolist() == answers


def test_packed_files_are_unpacked(tmp_path):
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress(AZURE.encode()))
    assert len(read_trace(path)) == 2


def test_prefixes_that_came_before_are_kept(tmp_path):
    assert read(tmp_path, MOONCAKE).kept_tokens.tolist() == [0, 1024]
    assert read(tmp_path, MOONCAKE_LINES).kept_tokens.tolist() == [0, 1024, 0], "only leading blocks count"


def test_what_was_changed_is_said(tmp_path):
    assert read(tmp_path, BURSTGPT).notes == ("1 requests without an answer left out",)
    assert "sorted by time: 1 requests" in read(tmp_path, PLAIN).notes[0]
    assert read(tmp_path, AZURE).notes == ()


def test_classes_keep_their_names(tmp_path):
    trace = read(tmp_path, PLAIN)
    assert [trace.classes[kind] for kind in trace.kind] == ["chat", "batch"]


def test_servegen_is_drawn_by_its_rates(tmp_path):
    trace = read(tmp_path, SERVEGEN, lengths=SHORT, seed=3)
    assert np.count_nonzero(trace.arrival_s < 600) == pytest.approx(1200, rel=0.15)
    assert np.count_nonzero(trace.arrival_s >= 600) == pytest.approx(600, rel=0.2)
    assert np.array_equal(trace.arrival_s, read(tmp_path, SERVEGEN, lengths=SHORT, seed=3).arrival_s)
    part = read(tmp_path, SERVEGEN, lengths=SHORT, span_s=(600.0, 1200.0), share=0.5)
    assert len(part) == pytest.approx(300, rel=0.25)
    assert part.arrival_s.max() < 600


def test_a_span_and_a_share_of_a_trace(tmp_path):
    text = "arrival_s,prompt_tokens,answer_tokens\n" + "".join(f"{second},9,9\n" for second in range(1000))
    span = read(tmp_path, text, span_s=(100.0, 200.0))
    assert (len(span), span.arrival_s[0], span.arrival_s[-1]) == (100, 0.0, 99.0)
    assert len(read(tmp_path, text, share=0.5)) == pytest.approx(500, rel=0.15)
    assert span.at_rate(4.0).rate_per_s == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("when,how\n1,2\n", "none of the known sets of columns"),
        ("arrival_s,prompt_tokens,answer_tokens\n", "no answered request"),
        ("arrival_s,prompt_tokens,answer_tokens\n0,9,9\n1,nine,9\n", "line 3"),
        ("arrival_s,prompt_tokens,answer_tokens\n0,9\n", "line 2"),
        ("arrival_s,prompt_tokens,answer_tokens\n0,-4,9\n", "is -4"),
        ("arrival_s,prompt_tokens,answer_tokens\n0,4,-9\n", "is -9"),
        ('{"a": 1}', "neither Mooncake's"),
        ('{"benchmarks": 3}', "can't be read"),
        ({"input_lens": [1], "output_lens": [1]}, "no start times"),
        (SERVEGEN, "not how long they are"),
    ],
)
def test_a_file_that_is_no_trace_is_one_clear_error(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        read(tmp_path, text)
    assert caught.value.code == "C106"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("0,0,1.0,1,Gamma,0.5,1\n0,300,1.0,1,Gamma,0.5,1\n", "before the one above it ends"),
        ("0,0,1.0,1,Cauchy,0.5,1\n", "Cauchy"),
        ("0,0,1e9,1,Gamma,0.5,1\n", "million"),
        ("0,0,0.0,,,,\n", "no arrivals"),
        ("0,0,much,1,Gamma,0.5,1\n", "line 2"),
    ],
)
def test_windows_that_cannot_be_are_refused(tmp_path, rows, words):
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, "client,0,1,2,3,4,5\n" + rows, lengths=SHORT)


def test_a_file_that_is_not_there_or_broken(tmp_path):
    with pytest.raises(ConfigError, match="can't be read"):
        read_trace(tmp_path / "missing.csv")
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(gzip.compress(AZURE.encode())[:20])
    with pytest.raises(ConfigError, match="can't be read"):
        read_trace(broken)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (([], [], []), "no requests"),
        (([-1.0], [1], [1]), "arrives at -1"),
        (([np.nan], [1], [1]), "arrives at nan"),
        (([1.7e12], [1], [1]), "in seconds"),
        (([0.0, 1.0], [1], [1, 1]), "1 values for 2 requests"),
        (([0.0], [0], [1]), "prompt of request 1 is 0"),
        (([0.0], [1], [1.5]), "answer of request 1 is 1.5"),
    ],
)
def test_requests_that_cannot_be_are_refused(columns, words):
    with pytest.raises(ConfigError, match=words):
        Trace(*columns)


def test_laws_keep_their_rates():
    assert poisson(20_000, 4.0, SHORT).rate_per_s == pytest.approx(4.0, rel=0.03)
    assert uniform(20_000, 0.1, 0.3, SHORT).rate_per_s == pytest.approx(5.0, rel=0.03)
    assert fixed(100, 0.5, SHORT).rate_per_s == pytest.approx(2.0)
    assert fixed(100, 0.0, SHORT).rate_per_s is None
    assert np.unique(bursts(90, 30, 7.0, SHORT).arrival_s).tolist() == [0.0, 7.0, 14.0]
    turns = markov_modulated(40_000, [1.0, 9.0], [50.0, 50.0], SHORT)
    assert turns.rate_per_s == pytest.approx(5.0, rel=0.15)
    counts = np.histogram(turns.arrival_s, bins=np.arange(0, turns.span_s, 10.0))[0]
    assert counts.var() > 5 * counts.mean(), "it should be burstier than Poisson"
    days = diurnal(200_000, 1.0, 0.8, SHORT, peak_hour=12.0)
    hours = np.bincount((days.arrival_s[days.arrival_s < 86_400] // 3600).astype(int), minlength=24)
    assert hours.argmax() in (11, 12)
    assert hours.max() > 4 * hours.min()


def test_lengths_keep_their_means_and_come_from_a_trace():
    random = np.random.default_rng(0)
    prompts, answers = LognormalLengths(300.0, 100.0, 0.7).draw(50_000, random)
    assert (prompts.mean(), answers.mean()) == pytest.approx((300.0, 100.0), rel=0.03)
    pairs = LengthsOf(Trace([0.0, 1.0], [5, 7], [50, 70])).draw(100, random)
    assert {(int(a), int(b)) for a, b in zip(*pairs, strict=True)} == {(5, 50), (7, 70)}


def test_a_seed_decides():
    one, same, other = (poisson(50, 1.0, LognormalLengths(), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.arrival_s, same.arrival_s)
    assert np.array_equal(one.answer_tokens, same.answer_tokens)
    assert not np.array_equal(one.arrival_s, other.arrival_s)


@pytest.mark.parametrize(
    "make",
    [
        lambda: poisson(0, 1.0, SHORT),
        lambda: poisson(5, 0.0, SHORT),
        lambda: poisson(5, float("inf"), SHORT),
        lambda: uniform(5, 2.0, 1.0, SHORT),
        lambda: fixed(5, -1.0, SHORT),
        lambda: bursts(5, 0, 1.0, SHORT),
        lambda: markov_modulated(5, [1.0], [1.0, 2.0], SHORT),
        lambda: markov_modulated(5, [0.0], [1.0], SHORT),
        lambda: diurnal(5, 1.0, 1.5, SHORT),
        lambda: fixed(5, 0.0, SHORT).at_rate(2.0),
        lambda: fixed(5, 1.0, SHORT).at_rate(0.0),
    ],
)
def test_traffic_that_cannot_be_is_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_vidur_gets_what_it_reads_and_we_read_it_back(tmp_path):
    trace = poisson(20, 2.0, LognormalLengths())
    path = tmp_path / "vidur.csv"
    write_vidur(trace, path)
    assert path.read_text().splitlines()[0] == "arrived_at,num_prefill_tokens,num_decode_tokens"
    back = read_trace(path)
    np.testing.assert_allclose(back.arrival_s, trace.arrival_s - trace.arrival_s[0], atol=1e-12)
    assert back.prompt_tokens.tolist() == trace.prompt_tokens.tolist()


@pytest.mark.skipif(not DATA.is_dir(), reason="the traces aren't here: set NEGAJOULE_DATA")
@pytest.mark.parametrize(
    ("name", "requests", "span_s"),
    [("azure_llm_2023_conv.csv.gz", 19_366, 3501.7), ("mooncake_fast25_conversation.csv.gz", 12_031, 3537.0)],
)
def test_the_public_traces_are_read_whole(name, requests, span_s):
    trace = read_trace(DATA / name)
    assert (len(trace), trace.span_s) == (requests, pytest.approx(span_s, abs=0.1))
