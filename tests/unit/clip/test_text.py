"""Text embeddings and cost volume."""

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from clclip.clip.cost_volume import cost_volume
from clclip.clip.embedded.model import tokenizer
from clclip.clip.ids import text_id
from clclip.clip.prompts import BACKGROUND_PROMPTS, TEMPLATES, clean_name
from clclip.clip.text import read_text, text_embeddings
from clclip.core.errors import InputError
from clclip.data.shapes.objects import class_names
from tests.helpers.clip import random_clip


def test_tokenizer_agrees_with_clips_where_merges_are_known_and_encodes_any_word():
    short, full = tokenizer(), open_clip.tokenizer.SimpleTokenizer()
    assert short.vocab_size == 512 + 1000 + 2
    for text in ("ace of spades", "hourglass", "Übergröße 42", "日本"):
        decoded = short.decode(short.encode(text))
        assert decoded.replace(" ", "") == full.decode(full.encode(text)).replace(" ", "")
    assert short.encode("a photo of a red") == full.encode("a photo of a red")
    ids = short(["word " * 100])
    assert ids.shape == (1, 32) and ids[0, -1] == short.eot_token_id


def test_prompts_fit_the_context_with_room_for_a_long_name():
    short = tokenizer()
    longest = max(len(short.encode(t.format(n))) for t in TEMPLATES for n in class_names(80))
    assert longest + 2 <= 28
    assert not set(BACKGROUND_PROMPTS) & set(class_names(80))


def test_names_are_cleaned():
    assert clean_name("dining_table") == "dining table"
    assert clean_name(" cat/dog  x ") == "cat or dog x"


def test_ensemble_is_the_unit_mean_of_unit_prompts():
    clip = random_clip("ViT-B-16", layers=1, width=32, head_width=32)
    ids = {}
    clip = type(clip)(**{**clip.__dict__, "tokenizer": lambda texts: _ids(texts, ids)})
    rows = text_embeddings(clip, ["red_ring", "b"])
    with torch.no_grad():
        prompts = torch.stack(
            [clip.model.encode_text(_ids([t.format("red ring")], ids))[0] for t in TEMPLATES]
        )
    mean = torch.nn.functional.normalize(prompts, dim=-1).mean(0)
    torch.testing.assert_close(rows[0], mean / mean.norm())
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))
    alone = text_embeddings(clip, ["b"])
    torch.testing.assert_close(alone[0], rows[1], rtol=1e-5, atol=1e-6)


def _ids(texts, seen):
    """A tokenizer that gives every new text ids of its own."""
    return torch.tensor([[1 + seen.setdefault(t, len(seen)), *[3] * 6, 63] for t in texts])


def test_ids_depend_on_clip_names_and_order():
    ids = {
        text_id("c", ["a", "b"]),
        text_id("c", ["b", "a"]),
        text_id("d", ["a", "b"]),
        text_id("c", ["a"]),
    }
    assert len(ids) == 4 and text_id("c", ["a", "b"]) == text_id("c", ("a", "b"))


def test_read_text_refuses_other_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_text(tmp_path / "none.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not text embeddings"):
        read_text(tmp_path / "x.safetensors")
    save_file({"text": torch.zeros(2, 3)}, tmp_path / "y.safetensors", metadata={"names": '["a"]'})
    with pytest.raises(InputError, match="1 names for 2 rows"):
        read_text(tmp_path / "y.safetensors")


def test_cost_volume_is_the_cosine_at_each_place():
    dense = torch.nn.functional.normalize(torch.randn(2, 5, 3, 4), dim=1)
    text = torch.nn.functional.normalize(torch.randn(6, 5), dim=1)
    volume = cost_volume(dense, text)
    assert volume.shape == (2, 6, 3, 4)
    torch.testing.assert_close(volume[1, 4, 2, 3], dense[1, :, 2, 3] @ text[4])
    with pytest.raises(ValueError, match="equal d"):
        cost_volume(dense, text[:, :4])


def test_cost_volume_is_exact_in_half_precision_too():
    dense = torch.nn.functional.normalize(torch.randn(2, 64, 3, 4), dim=1)
    text = torch.nn.functional.normalize(torch.randn(6, 64), dim=1)
    exact = cost_volume(dense, text)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cost_volume(dense, text), exact)
        rounded = cost_volume(dense.bfloat16(), text)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.01)


@given(st.integers(1, 6), st.integers(0, 2**31))
def test_cost_volume_of_a_class_ignores_the_other_classes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.nn.functional.normalize(torch.randn(1, 8, 2, 3, generator=generator), dim=1)
    text = torch.nn.functional.normalize(torch.randn(7, 8, generator=generator), dim=1)
    whole = cost_volume(dense, text)
    assert whole.abs().max() <= 1
    torch.testing.assert_close(
        cost_volume(dense, text[:count]), whole[:, :count], rtol=0, atol=1e-6
    )
    order = torch.randperm(7, generator=generator)
    torch.testing.assert_close(cost_volume(dense, text[order]), whole[:, order], rtol=0, atol=1e-6)
