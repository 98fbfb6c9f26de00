"""The values of an open_clip model config, checked key by key when a run is planned; torch-free.

``model_config`` checks keys and sizes; here stand the others, which open_clip meets with a bare
assertion when it builds the model, or takes without a word.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from clclip.core.errors import InputError


class Rule(NamedTuple):
    """What a value must be."""

    fits: Callable[[Any], bool]
    expected: str


def _number(low: float, high: float, below: bool = False) -> Rule:
    """Return the rule of a number from ``low`` to ``high``, or ``below`` it."""

    def fits(value: Any) -> bool:
        number = type(value) in (int, float) and math.isfinite(value)
        return number and low <= value <= high and not (below and value == high)

    return Rule(fits, f"a number from {low:g} to {'below ' if below else ''}{high:g}")


def _whole(low: int, high: int) -> Rule:
    """Return the rule of a whole number from ``low`` to ``high``."""
    right = _number(low, high).fits
    return Rule(lambda v: type(v) is int and right(v), f"a whole number from {low} to {high}")


def _side(high: int) -> Rule:
    """Return the rule of the side of a square in px, or of height and width."""
    right = _whole(1, high).fits

    def fits(value: Any) -> bool:
        pair = value if isinstance(value, list) and len(value) == 2 else [value]
        return all(map(right, pair))

    return Rule(fits, f"a whole number from 1 to {high}, or two")


def _one_of(*choices: Any) -> Rule:
    """Return the rule of a value that is one of a few."""
    shown = ", ".join(json.dumps(choice) for choice in choices)
    return Rule(lambda v: any(v == c and type(v) is type(c) for c in choices), f"one of {shown}")


def _or_null(rule: Rule) -> Rule:
    """Return a rule that null satisfies too."""
    return Rule(lambda v: v is None or rule.fits(v), f"{rule.expected}, or null")


FLAG = Rule(lambda v: type(v) is bool, "true or false")
TEXT = Rule(lambda v: v is None or isinstance(v, str), "a text, or null")
OBJECT = Rule(lambda v: v is None or isinstance(v, dict), "an object, or null")
ANY_NUMBER = _number(-1e6, 1e6)
# far above every CLIP that there is, so that a slip is not built for minutes
LAYERS, WIDTH, SIDE, TOKENS, WORDS = 1_000, 65_536, 16_384, 65_536, 10_000_000

_BLOCK = dict.fromkeys(
    ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"),
    FLAG,
)
_TOWER = {
    **_BLOCK,
    "layers": _whole(1, LAYERS),
    "width": _whole(1, WIDTH),
    "mlp_ratio": _number(0.01, 100),
    "ls_init_value": _or_null(ANY_NUMBER),
    "final_ln_after_pool": FLAG,
    "output_tokens": FLAG,
    "act_kwargs": OBJECT,
    "norm_kwargs": OBJECT,
    "block_type": _or_null(_one_of("default", "custom")),
}
RULES: dict[str, dict[str, Rule]] = {
    "model_cfg": {
        "embed_dim": _whole(1, WIDTH),
        "quick_gelu": FLAG,
        "custom_text": FLAG,
        "nonscalar_logit_scale": FLAG,
        "init_logit_scale": ANY_NUMBER,
        "init_logit_bias": _or_null(ANY_NUMBER),
    },
    "vision_cfg": {
        **_TOWER,
        "head_width": _whole(1, WIDTH),
        "image_size": _side(SIDE),
        "patch_size": _side(SIDE),
        "patch_dropout": _number(0, 1, below=True),
        "attentional_pool": _one_of(True, False, "parallel", "cascade"),
        "attn_pooler_queries": _whole(1, TOKENS),
        "attn_pooler_heads": _whole(1, WIDTH),
        "no_ln_pre": FLAG,
        "pos_embed_type": _one_of("learnable", "sin_cos_2d"),
        "pool_type": _one_of("tok", "avg", "none"),
        "timm_model_name": TEXT,
        "timm_model_pretrained": FLAG,
        "timm_pool": TEXT,
        "timm_proj": _or_null(_one_of("linear", "mlp", "none", "")),
        "timm_proj_bias": FLAG,
        "timm_drop": _number(0, 1),
        "timm_drop_path": _or_null(_number(0, 1, below=True)),
    },
    "text_cfg": {
        **_TOWER,
        "context_length": _whole(1, TOKENS),
        "vocab_size": _whole(1, WORDS),
        "heads": _whole(1, WIDTH),
        "hf_tokenizer_name": TEXT,
        "tokenizer_mode": TEXT,
        "tokenizer_kwargs": OBJECT,
        "embed_cls": FLAG,
        "pad_id": _whole(0, WORDS),
        "eos_id": _whole(0, WORDS),
        "no_causal_mask": FLAG,
        "pool_type": _one_of("first", "last", "argmax", "eos", "none"),
        "proj_bias": FLAG,
        "proj_type": _one_of("linear", "none"),
        "hf_model_name": TEXT,
        "hf_model_pretrained": FLAG,
        "hf_proj_type": _or_null(_one_of("linear", "mlp")),
        "hf_pooler_type": TEXT,
    },
    "preprocess_cfg": {
        "size": _or_null(_side(SIDE)),
        "fill_color": _or_null(_whole(0, 255)),
    },
}


def check_values(text: str, where: object) -> None:
    """Refuse the values of a config that open_clip cannot take.

    Args:
        text: a config that ``model_config.parsed`` has passed.
        where: its place, for messages.

    Raises:
        InputError: for the first such value, by its key.
    """
    config: dict[str, Any] = json.loads(text.removeprefix("\ufeff"))
    model, place = config, str(where)
    if "model_cfg" in config:
        model, place = config["model_cfg"], f"{where}: model_cfg"
    _check("model_cfg", model, place)
    for section in ("vision_cfg", "text_cfg"):
        _check(section, model[section], f"{place}: {section}")
    _check("preprocess_cfg", config.get("preprocess_cfg") or {}, f"{where}: preprocess_cfg")


def _check(section: str, values: Mapping[str, Any], place: str) -> None:
    """Refuse the first value of a section that breaks its rule."""
    for key, rule in RULES[section].items():
        if key in values and not rule.fits(values[key]):
            shown = json.dumps(values[key])
            shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
            raise InputError(f"got {shown}", f"{place}: {key}", rule.expected)
