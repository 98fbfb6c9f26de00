"""Names that are nearly right: one line that says which part is wrong, and what is meant."""

import pytest

from clclip.cli.main import main
from clclip.config.listing import listing
from clclip.config.names import is_name, read_name
from clclip.core.errors import InputError, nearest


def refusal(name):
    """The one line that refuses a name."""
    with pytest.raises(InputError) as error:
        read_name(name)
    line = str(error.value)
    assert "\n" not in line and repr(name) in line
    return line


@pytest.mark.parametrize(
    "name",
    ["shapes_10_10_fvit", "shapes_cil_seca_kd_clip", "voc_10_10_clclip_no_text", "smoke_joint"],
)
def test_an_underscore_at_the_end_makes_no_second_experiment(name, capsys):
    for wrong in (f"{name}_", f"{name}__"):
        assert is_name(name) and not is_name(wrong)
        assert f"did you mean '{name}'" in refusal(wrong)
    assert main(["describe", f"{name}_"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_stream_with_an_underscore_at_the_end_lacks_a_method():
    line = refusal("shapes_10_10_")
    assert "'shapes_10_10' is a stream" in line and "expected shapes_10_10_METHOD" in line


@pytest.mark.parametrize("shown", [[], ["--yaml"]])
def test_no_way_to_describe_a_file_drops_a_switch_without_a_word(shown, tmp_path, capsys):
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: smoke_clclip_no_text\nswitches: {text_weight: 0.9}\n")
    assert main(["describe", str(mine), *shown]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and "'text_weight' means nothing" in err


def test_list_shows_both_kinds_of_a_stream_that_two_have():
    text = listing("smoke")
    assert text.count("\n  smoke ") == 2
    for row in ("clclip ", "no_text ", "seca ", "kd_clip ", "openai "):
        assert text.count(f"\n  {row}") == 1, row
    assert "seca" not in listing("shapes_10_10") and "fvit" not in listing("shapes_cil_8x5")


@pytest.mark.parametrize(
    ("name", "right", "why"),
    [
        ("SHAPES_10_10_FVIT", "shapes_10_10_fvit", "lower case"),
        ("Voc_10_10_clclip_No_Text", "voc_10_10_clclip_no_text", "lower case"),
        ("VOC_10_10_FVITT", "voc_10_10_fvit", "no method 'fvitt'"),
        ("clutter20_10_10_clclip_apart", "clutter20_10_10_apart_clclip", "another order"),
        ("voc_10_10_no_text_clclip", "voc_10_10_clclip_no_text", "another order"),
        ("fvit_voc_10_10", "voc_10_10_fvit", "another order"),
        ("voc_10_1O_fvit", "voc_10_10_fvit", "no stream 'voc_10_1O'"),
    ],
)
def test_capital_letters_and_another_order_are_seen(name, right, why):
    line = refusal(name)
    assert f"did you mean '{right}'?" in line and why in line


def test_the_nearest_variant_may_be_one_that_does_not_fit():
    line = refusal("voc_10_10_fvit_no_txt")
    expected = "no variant 'no_txt', the nearest is 'no_text', which does not fit voc_10_10_fvit"
    assert expected in line and "did you mean" not in line


def test_a_long_name_is_refused_at_once():
    assert "no stream" in refusal("_".join(["fvit", *["voc"] * 100]))


@pytest.mark.parametrize("known", [["embedded", "ViT-B-16"], ["ViT-B-32", "ViT-B-16"]])
def test_a_word_in_other_capitals_is_the_nearest(known):
    assert nearest("VIT-B-16", known) == " (did you mean 'ViT-B-16'?)"
    assert nearest("EMBEDDED", ["embedded"]) == " (did you mean 'embedded'?)"
    assert not nearest("nothing", ["embedded"])


@pytest.mark.parametrize(
    ("name", "variant", "rest"),
    [
        ("shapes_10_10_clclip_text_alone_no_text", "text_alone", "shapes_10_10_clclip_no_text"),
        ("shapes_10_10_clclip_no_text_text_alone", "text_alone", "shapes_10_10_clclip_no_text"),
        ("smoke_seca_kd_clip_evict_min", "evict_min", "smoke_cil_seca_kd_clip"),
        ("smoke_seca_evict_oldest_kd_average", "evict_oldest", "smoke_cil_seca_kd_average"),
        ("smoke_seca_relevance_paper_kd_previous", "relevance_paper", "smoke_cil_seca_kd_previous"),
    ],
)
def test_a_variant_that_changes_nothing_makes_no_second_name_of_one_run(name, variant, rest):
    line = refusal(name)
    assert f"variant '{variant}' adds nothing to {rest}," in line
    assert line.endswith(f"expected {rest}") and is_name(rest)


def test_variants_that_each_change_something_stay_together():
    for name in (
        "smoke_seca_evict_min_relevance_paper",
        "smoke_seca_kd_clip_centroid",
        "shapes_10_10_clclip_text_alone_no_decoupling",
        "voc_10_10_clclip_fast_no_text",
        "voc_10_10_clclip_openai_no_text",
        "voc_10_10_clclip_eva02_no_text",  # the tower of the stream, said aloud
    ):
        assert is_name(name), name
