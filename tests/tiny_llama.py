"""A GGUF file of a Llama with random weights, which llama.cpp and transformers both read."""

from __future__ import annotations

import string

WIDTH, NEURONS, LAYERS, HEADS, KEY_HEADS = 64, 128, 2, 4, 2
WORDS = ("the", "sun", "rain", "is", "warm", "cold", "and", "day", "night", "was")


def write_tiny_llama(path, seed=0, spread=0.2):
    """Write the file; weights are normal, with the given standard deviation."""
    import gguf
    import numpy as np

    dice = np.random.default_rng(seed)
    tokens, merges = _vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(NEURONS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, *[1] * (len(tokens) - 1)])
    writer.add_token_merges(merges)
    for name in ("bos", "eos", "unk"):
        getattr(writer, f"add_{name}_token_id")(0)

    def add(name, *shape):
        writer.add_tensor(name, dice.normal(scale=spread, size=shape).astype("f4"))

    def add_norm(name):
        writer.add_tensor(name, np.ones(WIDTH, "f4"))

    keys = WIDTH * KEY_HEADS // HEADS
    add("token_embd.weight", len(tokens), WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        add(f"{block}.attn_q.weight", WIDTH, WIDTH)
        add(f"{block}.attn_k.weight", keys, WIDTH)
        add(f"{block}.attn_v.weight", keys, WIDTH)
        add(f"{block}.attn_output.weight", WIDTH, WIDTH)
        add(f"{block}.ffn_gate.weight", NEURONS, WIDTH)
        add(f"{block}.ffn_up.weight", NEURONS, WIDTH)
        add(f"{block}.ffn_down.weight", WIDTH, NEURONS)
        add_norm(f"{block}.attn_norm.weight")
        add_norm(f"{block}.ffn_norm.weight")
    add_norm("output_norm.weight")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary():
    """An end mark, all bytes as GPT-2 writes them, and words built up by merges."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    odd = [byte for byte in range(256) if byte not in plain]
    tokens = ["<|endoftext|>", *map(chr, plain), *(chr(256 + place) for place in range(len(odd)))]
    merges = []
    for word in WORDS:
        so_far = "Ġ"
        for letter in word:
            merge = f"{so_far} {letter}"
            so_far += letter
            if merge not in merges:
                merges.append(merge)
                tokens.append(so_far)
    assert all(letter in tokens for letter in string.ascii_letters)
    return tokens, merges
