"""The shape, the vocabulary and the files of the embedded tiny Qwen2 checkpoint.

What it is: one place for config.json, tokenizer.json and the weights' file format.
What it is not: training (pretrain_tiny.py) or series (synthetic_series.py).
Invariant: one id a character; the ids follow the characters' ASCII order, the special tokens come last.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

CHARACTERS = ",-.0123456789;"
END_OF_TEXT = "<|endoftext|>"  # end of a series, and the padding
UNKNOWN = "<|unknown|>"
VOCABULARY = {character: index for index, character in enumerate(CHARACTERS)}
END_OF_TEXT_ID = len(CHARACTERS)
UNKNOWN_ID = END_OF_TEXT_ID + 1
VOCABULARY_SIZE = UNKNOWN_ID + 1

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": END_OF_TEXT_ID,
    "eos_token_id": END_OF_TEXT_ID,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.06,
    "intermediate_size": 640,
    "max_position_embeddings": 2048,
    "model_type": "qwen2",
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
    "num_key_value_heads": 1,
    "pad_token_id": END_OF_TEXT_ID,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": VOCABULARY_SIZE,
}


def encode(text):
    """Token ids of LLMTIME text, one a character."""
    return [VOCABULARY[character] for character in text]


def decode(ids):
    """The text of token ids; special tokens are left out."""
    return "".join(CHARACTERS[index] for index in ids if index < len(CHARACTERS))


def build_model(seed):
    """A freshly initialised fp32 model."""
    torch.manual_seed(seed)
    settings = {k: v for k, v in CONFIG.items() if k not in ("architectures", "torch_dtype", "model_type")}
    return Qwen2ForCausalLM(Qwen2Config(**settings)).to(torch.float32)


def load_model(folder):
    """The checkpoint in fp32; its bf16 weights widen exactly."""
    return Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def tokenizer_json():
    """tokenizer.json: BPE without merges, so that every character is its own token."""
    specials = [(END_OF_TEXT_ID, END_OF_TEXT), (UNKNOWN_ID, UNKNOWN)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index, content in specials
        ],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {**VOCABULARY, **{content: index for index, content in specials}},
            "merges": [],
        },
    }


def save_checkpoint(model, folder):
    """Write the Hugging Face folder, each file replaced whole, weights in bf16, the tied head stored once."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    partial = folder / "model.safetensors.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.chmod(0o644)
    partial.replace(folder / "model.safetensors")
    texts = {
        "config.json": CONFIG,
        "tokenizer.json": tokenizer_json(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END_OF_TEXT,
            "pad_token": END_OF_TEXT,
            "unk_token": UNKNOWN,
            "clean_up_tokenization_spaces": False,
            "model_max_length": CONFIG["max_position_embeddings"],
        },
    }
    for name, content in texts.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
