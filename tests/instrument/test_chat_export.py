"""Chat histories to footprints: every reply once, nothing invented, what can't be told is named."""

from __future__ import annotations

import json
import math
import zipfile
from collections import Counter

import pytest
from chats import APRIL, MARCH, claude_chat, claude_message, large, message, thread, tree
from hypothesis import given
from hypothesis import strategies as st

from negajoule.catalog import lookup
from negajoule.errors import CatalogError, ConfigError
from negajoule.instrument.chat_export import chatgpt, claude, read_history
from negajoule.instrument.chat_export.models import served_model
from negajoule.instrument.chat_export.reply import Reply, Unknown, month_of
from negajoule.instrument.chat_export.tokens import tokens_of

ENDS = ("low", "value", "high")
TEXT = "four score and seven years ago " * 10  # 310 ASCII characters


def parsed(conversation, parser=chatgpt):
    found = list(parser.replies(conversation))
    return [one for one in found if isinstance(one, Reply)], [
        one for one in found if isinstance(one, Unknown)
    ]


def written(tmp_path, data, name="conversations.json"):
    path = tmp_path / name
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def history(tmp_path, *conversations, kind="chatgpt", **options):
    return read_history(written(tmp_path, list(conversations)), kind, **options)


def what(history):
    found = Counter()
    for (_, name), number in history.unknown.items():
        found[name] += number
    return dict(found)


# Tokens of texts


def test_tokens_of_english_are_a_quarter_of_its_characters():
    tokens = tokens_of(TEXT)
    assert tokens.value == pytest.approx(len(TEXT) / 4)
    assert tokens.low < tokens.value < tokens.high


@pytest.mark.parametrize(
    ("text", "measured"),
    [  # by js-tiktoken 1.0.21, o200k_base
        ("All human beings are born free and equal in dignity and rights.", 13),
        ("Все люди рождаются свободными и равными в своем достоинстве и правах.", 17),
        ("सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।", 25),
        ("人人生而自由，在尊严和权利上一律平等。", 15),
        ("모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.", 24),
    ],
)
def test_other_scripts_have_their_own_rate(text, measured):
    tokens = tokens_of(text)
    assert tokens.low * 0.95 <= measured <= tokens.high
    if not text.isascii():
        assert tokens.value > len(text) / 4


def test_no_text_is_no_token():
    assert tokens_of("").high == 0


@given(st.text(), st.text())
def test_tokens_add_up(first, second):
    both = tokens_of(first + second)
    apart = tokens_of(first).plus(tokens_of(second))
    assert both == pytest.approx(apart)
    assert 0 <= both.low <= both.value <= both.high <= 4 * len(first + second) + 1e-9


# ChatGPT


def test_a_reply_reads_all_that_came_before():
    replies, unknown = parsed(
        thread(
            message("system", ""),
            message("user", TEXT),
            message("assistant", TEXT * 2),
            message("user", "and then?"),
            message("assistant", "an end", at=APRIL),
        )
    )
    assert unknown == []
    first, second = replies
    assert (first.month, second.month) == ("2025-03", "2025-04")
    assert first.seen.value == 0
    assert first.fresh.value == pytest.approx(len(TEXT) / 4)
    assert second.seen.value == pytest.approx(len(TEXT) * 3 / 4)
    assert second.fresh.value == pytest.approx(len("and then?") / 4)
    assert second.answer.value == pytest.approx(len("an end") / 4)


def test_abandoned_branches_were_generated_too_each_once():
    replies, _ = parsed(
        tree(
            [
                (-1, message("user", TEXT)),
                (0, message("assistant", "first try")),
                (0, message("assistant", "second try")),
                (1, message("user", "go on")),
                (3, message("assistant", "done")),
            ]
        )
    )
    assert len(replies) == 3
    assert [reply.fresh.value for reply in replies[:1]] == [pytest.approx(len(TEXT) / 4)]
    last = max(replies, key=lambda reply: reply.seen.value)
    assert last.seen.value == pytest.approx((len(TEXT) + len("first try")) / 4)


def test_a_tool_call_is_a_reply_and_its_result_is_read():
    call = message("assistant", {"content_type": "code", "language": "python", "text": "print(6 * 7)"})
    output = message("tool", {"content_type": "execution_output", "text": "42"})
    replies, unknown = parsed(
        thread(
            message("user", "?"), call | {"recipient": "python"}, output, message("assistant", "It is 42.")
        )
    )
    assert unknown == []
    assert [reply.answer.value * 4 for reply in replies] == [len("print(6 * 7)"), len("It is 42.")]
    assert replies[1].fresh.value == pytest.approx(len("42") / 4)
    assert not replies[1].continues


def thoughts(*texts):
    return {"content_type": "thoughts", "thoughts": [{"summary": text, "content": text} for text in texts]}


def recap(seconds):
    content = {"content_type": "reasoning_recap", "content": f"Thought for {seconds}s"}
    return message("assistant", content, model="gpt-5-thinking", metadata={"finished_duration_sec": seconds})


def test_hidden_reasoning_is_told_by_its_seconds():
    replies, _ = parsed(
        thread(
            message("user", TEXT),
            message("assistant", thoughts("Weighing"), model="gpt-5-thinking"),
            recap(10),
            message("assistant", "Yes.", model="gpt-5-thinking"),
        )
    )
    thinking, answer = replies
    rate = lookup("chat.output-rate")
    assert thinking.hidden == pytest.approx((10 * rate.value, 10 * rate.low, 10 * rate.high))
    assert answer.hidden is None
    assert answer.continues


@pytest.mark.parametrize("model", ["o1", "o3-mini-high", "gpt-5-2-thinking", "gpt-5-pro"])
def test_a_model_that_reasons_does_so_unseen_once_a_turn(model):
    turn = (
        message("user", TEXT),
        message("assistant", "Hm.", model=model),
        message("assistant", "Yes.", model=model),
    )
    replies, _ = parsed(thread(*turn, *turn))
    fact = lookup("chat.hidden-reasoning")
    assert [reply.hidden for reply in replies] == [(fact.value, fact.low, fact.high), None] * 2


def test_thoughts_of_unknown_length_widen_the_answer():
    replies, _ = parsed(
        thread(
            message("user", TEXT),
            message("assistant", thoughts("x"), model="gpt-5"),
            message("assistant", "Yes."),
        )
    )
    assert [reply.hidden is None for reply in replies] == [False]


def test_hidden_reasoning_makes_the_interval_wider(tmp_path):
    def one(model):
        return thread(message("user", TEXT), message("assistant", TEXT * 4, model=model))

    plain = history(tmp_path, one("gpt-5")).total.footprint
    thinking = history(tmp_path, one("gpt-5-thinking")).total.footprint
    assert thinking.it_energy.high / thinking.it_energy.low > plain.it_energy.high / plain.it_energy.low
    assert "hidden reasoning" in {cause.name for cause in thinking.contributors}
    assert thinking.it_energy.value > 5 * plain.it_energy.value


def test_images_audio_and_files_are_named_and_not_zero(tmp_path):
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x", "width": 1}
    spoken = {"content_type": "audio_transcription", "text": "hello there"}
    voice = {"content_type": "real_time_user_audio_video_asset_pointer", "audio_asset_pointer": {}}
    parts = {"content_type": "multimodal_text", "parts": [picture, spoken, voice, "look"]}
    made = {"content_type": "multimodal_text", "parts": [picture]}
    files = {"attachments": [{"name": "a.pdf", "mime_type": "application/pdf"}, {"mime_type": "image/png"}]}
    found = history(
        tmp_path,
        thread(
            message("user", parts, metadata=files),
            message("assistant", "see"),
            message("tool", made),
        ),
    )
    assert what(found) == {
        "images sent": 1,
        "audios sent": 1,
        "attached files": 1,
        "images made or shown": 1,
    }
    replies, _ = parsed(thread(message("user", parts), message("assistant", "see")))
    assert replies[0].fresh.value == pytest.approx(len("hello there\nlook") / 4)


@pytest.mark.parametrize(
    ("slug", "known"),
    [
        ("text-davinci-002-render-sha", "gpt-3.5-turbo"),
        ("gpt-4", "gpt-4"),
        ("gpt-4-gizmo", "gpt-4"),
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("gpt-4-1", "gpt-4.1"),
        ("gpt-5-thinking", "gpt-5"),
        ("gpt-5-2-thinking", "gpt-5.2"),
        ("gpt-5-4-pro", "gpt-5.4-pro"),
        ("gpt-5-t-mini", "gpt-5-mini"),
        ("o4-mini-high", "o4-mini"),
        ("o1-preview", "o1-preview"),
        ("gpt-4-5", None),
        ("my-own-gpt", None),
        ("auto", None),
        ("", None),
    ],
)
def test_names_in_archives_become_models_or_nothing(slug, known):
    served = served_model("chatgpt", slug, "2025-03")
    assert (served.name if served else None) == known
    assert served is None or not served.note


def test_a_model_nobody_knows_is_listed_and_left_out_of_the_sums(tmp_path):
    known = thread(message("user", TEXT), message("assistant", TEXT))
    strange = thread(message("user", TEXT), message("assistant", TEXT, model="gpt-4-5"))
    found = history(tmp_path, known, strange)
    assert found.total.replies == 1
    assert found.conversations == 2
    assert what(found) == {"replies of gpt-4-5, whose size isn't known": 1}
    assert [row.footprint is None for row in found.rows] == [True, False]
    assumed = history(tmp_path, known, strange, model="gpt-4o")
    assert assumed.total.replies == 2
    assert assumed.unknown == {}
    assert any("gpt-4-5" in note and "as you said" in note for note in assumed.total.footprint.notes)


def test_the_default_model_of_a_conversation_stands_in():
    bare = message("assistant", "x") | {"metadata": {}}
    replies, _ = parsed(thread(message("user", "y"), bare, default_model_slug="gpt-4"))
    assert replies[0].model == "gpt-4"


@pytest.mark.parametrize("time", [None, -5.0, 1e300, math.nan, "yesterday", True, 0, [], {}, "", 1e10])
def test_impossible_times_are_of_an_unknown_month(time):
    assert month_of(time) == "unknown"


@pytest.mark.parametrize(
    ("time", "month"),
    [
        (MARCH, "2025-03"),
        (1_741_000_000, "2025-03"),
        ("2025-10-31T23:30:00-02:00", "2025-11"),
        ("2025-10-02", "2025-10"),
    ],
)
def test_times_are_of_a_month_in_utc(time, month):
    assert month_of(time) == month


def test_messages_without_time_author_or_form_are_no_crash(tmp_path):
    found = history(
        tmp_path,
        thread(
            message("user", TEXT, at=None),
            message("assistant", TEXT, at=None),
            message(None, "whose?"),
            message("assistant", {"content_type": "hologram", "text": "beyond"}),
            {"author": {"role": "assistant"}},
            {"author": "me", "content": "text", "metadata": 7},
            "not a message",
            None,
            message("assistant", ""),
        ),
        {"mapping": 5, "create_time": MARCH},
        {"mapping": {"a": None, "b": 7, "c": {"message": None, "children": [None, 3]}}},
        ["no conversation"],
        3,
    )
    assert [row.month for row in found.months] == ["unknown"]
    assert what(found) == {
        "messages without an author": 2,
        "messages of unknown form": 1,
        "replies of type hologram": 1,
        "conversations without readable messages": 1,
        "conversations of unknown form": 2,
    }


def test_messages_in_a_circle_are_named_and_dont_hang(tmp_path):
    circular = thread(message("user", "a"), message("assistant", "b"), message("user", "c"))
    circular["mapping"]["node-0"]["parent"] = "node-2"
    own = thread(message("assistant", "d"))
    own["mapping"]["node-0"]["parent"] = "node-0"
    found = history(tmp_path, circular, own, thread(message("user", "e"), message("assistant", "f")))
    assert what(found) == {"replies in a circle of messages": 2}
    assert found.total.replies == 1


def test_a_missing_parent_starts_anew_and_children_stand_in_for_parents():
    lost = thread(message("user", TEXT), message("assistant", TEXT))
    lost["mapping"]["node-1"]["parent"] = "deleted"
    lost["mapping"]["node-0"]["children"] = []
    assert parsed(lost)[0][0].fresh.value == 0
    without = thread(message("user", TEXT), message("assistant", TEXT))
    for node in without["mapping"].values():
        del node["parent"]
    assert parsed(without)[0][0].fresh.value == pytest.approx(len(TEXT) / 4)


def test_a_long_thread_doesnt_exhaust_the_stack():
    replies, _ = parsed(thread(*[message("user", "a"), message("assistant", "b")] * 1200))
    assert len(replies) == 1200


# Claude


def test_claude_names_no_model_so_every_size_is_inside(tmp_path):
    chat = claude_chat(claude_message("human", TEXT), claude_message("assistant", TEXT))
    found = history(tmp_path, chat, kind="claude")
    cost = found.total.footprint
    assert "size of the model" in {cause.name for cause in cost.contributors}
    assert any("names no model" in note for note in cost.notes)
    assert cost.factors[0].key == "pue.provider.anthropic"
    told = history(tmp_path, chat, kind="claude", model="claude-sonnet-4-5").total.footprint
    assert cost.it_energy.low < told.it_energy.value < cost.it_energy.high
    assert told.it_energy.high / told.it_energy.low < cost.it_energy.high / cost.it_energy.low


def test_later_claudes_may_be_larger():
    early, late = (served_model("claude", "", month) for month in ("2024-05", "2026-10"))
    assert early.knowledge["active_parameters_b"][1] < late.knowledge["active_parameters_b"][1]
    assert served_model("claude", "", "unknown").knowledge == late.knowledge
    assert served_model("claude", "", "2019-01").knowledge == early.knowledge


def test_a_claude_that_is_named_is_taken():
    assert served_model("claude", "claude-sonnet-4-5", "2025-10").name == "claude-sonnet-4-5"
    assert served_model("claude", "claude-1.3", "2023-05") is None


def test_a_tool_result_starts_a_new_request():
    use = {"type": "tool_use", "name": "search", "input": {"q": "x"}}
    result = {"type": "tool_result", "content": [{"type": "text", "text": TEXT}]}
    replies, unknown = parsed(
        claude_chat(
            claude_message("human", "find"), claude_message("assistant", "Let me.", use, result, "There.")
        ),
        claude,
    )
    assert unknown == []
    first, second = replies
    assert first.answer.value == pytest.approx(len('Let me.search {"q":"x"}') / 4)
    assert second.fresh.value == pytest.approx(len(TEXT) / 4)
    assert second.seen.value == pytest.approx(first.fresh.value + first.answer.value)


def test_thinking_counts_by_its_time_and_never_less_than_its_text():
    thinking = {
        "type": "thinking",
        "thinking": TEXT,
        "start_timestamp": "2025-10-02T08:00:00Z",
        "stop_timestamp": "2025-10-02T08:00:20Z",
    }
    replies, _ = parsed(
        claude_chat(claude_message("human", "?"), claude_message("assistant", thinking, "!")), claude
    )
    rate = lookup("chat.output-rate")
    assert replies[0].hidden.value == pytest.approx(20 * rate.value)
    assert replies[0].hidden.low == tokens_of(TEXT).low
    untimed = {"type": "thinking", "thinking": TEXT}
    replies, _ = parsed(claude_chat(claude_message("assistant", untimed, "!")), claude)
    assert replies[0].hidden.value == tokens_of(TEXT).value
    assert replies[0].hidden.high == lookup("chat.hidden-reasoning").high


def test_attachments_are_read_and_files_are_unknown():
    asked = claude_message(
        "human",
        "summarise",
        attachments=[{"file_name": "a.txt", "extracted_content": TEXT}, {"file_name": "b.bin"}],
        files=[{"file_name": "c.png"}],
    )
    replies, unknown = parsed(claude_chat(asked, claude_message("assistant", "short")), claude)
    assert replies[0].fresh.value == pytest.approx((len(TEXT) + len("summarise")) / 4)
    assert [one.what for one in unknown] == ["attached files"] * 2


def test_branches_of_newer_archives_follow_their_parents():
    root = "00000000-0000-4000-8000-000000000000"
    chat = claude_chat(
        claude_message("human", TEXT, uuid="1", parent_message_uuid=root),
        claude_message("assistant", "one", uuid="2", parent_message_uuid="1"),
        claude_message("assistant", "two", uuid="3", parent_message_uuid="1"),
    )
    replies, _ = parsed(chat, claude)
    assert [reply.fresh.value for reply in replies] == [pytest.approx(len(TEXT) / 4)] * 2
    assert [reply.seen.value for reply in replies] == [0, 0]


def test_older_archives_of_claude_have_text_only():
    chat = claude_chat(
        {"uuid": "1", "sender": "human", "text": TEXT, "created_at": "2024-05-01T00:00:00Z"},
        {"uuid": "2", "sender": "assistant", "text": "yes", "created_at": "2024-05-01T00:00:01Z"},
    )
    replies, unknown = parsed(chat, claude)
    assert unknown == []
    assert replies[0].answer.value == pytest.approx(len("yes") / 4)
    assert replies[0].month == "2024-05"


def test_odd_messages_of_claude_are_no_crash(tmp_path):
    found = history(
        tmp_path,
        claude_chat(
            claude_message(None, "whose?"),
            claude_message("human", {"type": "text", "text": 5}, at="soon"),
            claude_message(
                "assistant", {"type": "flag", "text": "odd"}, {"type": "tool_result", "content": 3}
            ),
            claude_message("assistant", {"type": "thinking"}, attachments=[3], files="x"),
            "nothing",
        ),
        {"uuid": "d", "chat_messages": "gone"},
        kind="claude",
    )
    assert what(found) == {
        "messages without an author": 1,
        "replies of type flag": 1,
        "attached files": 1,
        "messages of unknown form": 1,
        "conversations without readable messages": 1,
    }


# Sums


@given(
    st.lists(
        st.tuples(
            st.sampled_from([MARCH, APRIL, None]),
            st.sampled_from(["gpt-4o", "gpt-4", "o1", "strange"]),
            st.text(min_size=1, max_size=200),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_months_and_models_add_up_to_the_total(tmp_path_factory, turns):
    messages = []
    for at, model, text in turns:
        messages += [message("user", text, at=at), message("assistant", text, at=at, model=model)]
    found = history(tmp_path_factory.mktemp("chats"), thread(*messages))
    counted = sum(row.replies for row in found.rows)
    assert counted == len(turns)
    if found.total is None:
        assert {model for _, model, _ in turns} == {"strange"}
        return
    for rows in (found.months, found.models, [row for row in found.rows if row.footprint]):
        assert sum(row.replies for row in rows) == found.total.replies
        for name in ("it_energy", "carbon_location", "water_onsite", "water_offsite", "embodied"):
            whole = getattr(found.total.footprint, name)
            for end in ENDS:
                summed = math.fsum(getattr(getattr(row.footprint, name), end) for row in rows)
                assert summed == pytest.approx(getattr(whole, end), rel=1e-9)


def test_more_text_is_never_less(tmp_path):
    costs = [
        history(tmp_path, thread(message("user", TEXT * n), message("assistant", TEXT * n))).total.footprint
        for n in (1, 5, 50)
    ]
    for end in ENDS:
        found = [getattr(cost.it_energy, end) for cost in costs]
        assert found == sorted(found)


def test_beyond_the_context_window_nothing_more_is_read(tmp_path):
    words = "word " * 400_000  # some 500,000 tokens
    found = history(tmp_path, thread(message("user", words), message("assistant", "ok")))
    window, system = lookup("chat.context-window.chatgpt"), lookup("chat.system-prompt.chatgpt")
    assert found.total.tokens_in.value == pytest.approx(window.value + system.value)
    assert "context window" in {cause.name for cause in found.total.footprint.contributors}


def test_zone_and_knowledge_are_taken(tmp_path):
    chat = thread(message("user", TEXT), message("assistant", TEXT))
    wide = history(tmp_path, chat).total.footprint
    close = history(tmp_path, chat, zone="SE", batch=64, accelerator="H100").total.footprint
    assert close.carbon_location.value < wide.carbon_location.value / 5
    assert not any("location unknown" in note for note in close.notes)
    with pytest.raises(CatalogError):
        history(tmp_path, chat, zone="Atlantis")
    with pytest.raises(CatalogError):
        history(tmp_path, chat, model="gpt-4oo")
    with pytest.raises(ConfigError):
        history(tmp_path, chat, batch=-1)


# Files

CHAT = thread(message("user", TEXT), message("assistant", TEXT), conversation_id="one")
OTHER = thread(message("user", TEXT), message("assistant", TEXT), conversation_id="two")


def zipped(tmp_path, members, name="export.zip"):
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data if isinstance(data, str) else json.dumps(data))
    return path


def test_a_zip_as_downloaded_a_folder_and_a_file_are_the_same(tmp_path):
    members = {"user.json": "{}", "chat.html": "<html>", "conversations.json": [CHAT, OTHER]}
    folder = tmp_path / "unpacked" / "inner"
    folder.mkdir(parents=True)
    costs = [
        read_history(path, "chatgpt").total.footprint.it_energy
        for path in (
            zipped(tmp_path, members),
            zipped(tmp_path, {f"x/{name}": data for name, data in members.items()}, "nested.bin"),
            written(folder, [CHAT, OTHER]),
            folder.parent,
            written(tmp_path, {"conversations": [CHAT, OTHER]}, "wrapped.json"),
            written(tmp_path, "\ufeff" + json.dumps([CHAT, OTHER]), "marked.json"),
        )
    ]
    assert len(set(costs)) == 1
    assert read_history(written(tmp_path, CHAT, "single.json"), "chatgpt").conversations == 1


def test_numbered_files_are_read_together_and_copies_once(tmp_path):
    path = zipped(
        tmp_path,
        {
            "conversations-000.json": [CHAT],
            "conversations-001.json": [OTHER, CHAT],
            "__MACOSX/._conversations-000.json": "junk",
        },
    )
    assert read_history(path, "chatgpt").conversations == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("<html>", "isn't JSON"),
        ('[{"mapping": {', "is cut off"),
        (json.dumps([CHAT])[:-30], "is cut off"),
        ("3", "no list of conversations"),
        ("[]", "no conversation of ChatGPT"),
        ("{}", "no conversation of ChatGPT"),
        ("[1, 2]", "no conversation of ChatGPT"),
        ('{"conversations": 5}', "isn't JSON"),
        (json.dumps([claude_chat()]), "an export of Claude"),
        ("\xff\xfe", "isn't JSON"),
        ("[" * 100_000, "isn't JSON|is cut off"),
        ('[{"mapping": ' + "[" * 5000 + "]" * 5000 + "}]", "isn't JSON|no conversation"),
    ],
)
def test_a_file_that_is_no_archive_is_an_error_with_a_next_step(tmp_path, content, words):
    path = tmp_path / "conversations.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=words) as raised:
        read_history(path, "chatgpt")
    assert raised.value.code == "C106"
    assert raised.value.fix


def test_archives_that_cant_be_opened_are_errors_too(tmp_path):
    whole = zipped(tmp_path, {"conversations.json": [CHAT] * 50}).read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(whole[:60] + b"\0" * 40 + whole[100:])
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (
        cut,
        damaged,
        empty,
        zipped(tmp_path, {"user.json": "{}"}, "none.zip"),
        tmp_path / "nowhere.json",
    ):
        with pytest.raises(ConfigError) as raised:
            read_history(path, "chatgpt")
        assert raised.value.code == "C106", path
        assert str(path) in raised.value.message


def test_progress_reaches_the_end_and_never_passes_it(tmp_path):
    told = []
    path = written(tmp_path, large(5, 2))
    read_history(path, "chatgpt", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert all(done <= total for done, total in told)
