"""The words of the corpus: which concepts and titles are kept, under which name, and what is held out."""

import io
import json
import re

import pytest
from PIL import Image

from training.corpus.concepts import Concept, family, held_out_names, is_held_out, parse_concepts, plain_hexcode
from training.corpus.emoji import icon_svg
from training.corpus.fxemoji_names import BY_HAND, match_names
from training.corpus.openclipart import describe, names_any, parse_record
from training.corpus.render import render
from training.corpus.shards import Annotation, Drawing
from training.corpus.titles import clean, label_of, translate

ENGLISH = frozenset(
    ["apple", "pie", "dog", "the", "clown", "red", "car", "tank", "scuba", "bucket", "green", "water", "with", "boat"]
)
ANNOTATION = Annotation("thing", "nowhere 1", "MIT")


def clip_art(title: str, keywords: list[str], licence: str = "PublicDomain", description: str = "") -> bytes:
    bag = "".join(f"<rdf:li>{keyword}</rdf:li>" for keyword in keywords)
    return (
        f"<metadata><rdf:RDF><cc:Work><dc:title>{title}</dc:title><dc:description>{description}</dc:description>"
        f"<dc:subject><rdf:Bag>{bag}</rdf:Bag></dc:subject><dc:creator><cc:Agent><dc:title>Ann Author</dc:title>"
        f'</cc:Agent></dc:creator><cc:license rdf:resource="http://web.resource.org/cc/{licence}"/></cc:Work></rdf:RDF>'
        "</metadata>"
    ).encode()


def picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGBA")


def rows(*labels: str) -> bytes:
    table = [
        {"label": label, "hexcode": f"1F60{n}", "group": 3, "tags": ["x", label]} for n, label in enumerate(labels)
    ]
    return json.dumps(table).encode()


# --- concepts


def test_flags_keycaps_letters_and_components_are_left_out() -> None:
    kept = ["dog", "pirate flag", "black flag"]
    dropped = ["flag: France", "keycap: 7", "regional indicator A"]
    assert [concept.name for concept in parse_concepts(rows(*kept, *dropped)).values()] == kept
    component = [{"label": "dark skin tone", "hexcode": "1F3FF", "group": 2, "tags": []}]
    assert parse_concepts(json.dumps(component).encode()) == {}


def test_a_concept_keeps_its_tags_but_not_its_own_name_among_them() -> None:
    assert parse_concepts(rows("dog"))["1f600"] == Concept("1F600", "dog", ("x",))


def test_hexcodes_match_with_and_without_the_variation_selector() -> None:
    assert plain_hexcode("2764-FE0F-200D-1F525") == plain_hexcode("2764-200d-1f525") == "2764-200d-1f525"


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (["man walking", "woman walking", "person walking", "woman walking: facing right"], "walking"),
        (["man: beard", "woman: beard", "person: beard"], "beard"),
        (["family: man, woman, boy", "family: adult, child"], "family:"),
        (["man", "man: "], "man"),
        (["snowman"], "snowman"),
    ],
)
def test_variants_of_one_concept_are_one_family(names: list[str], shared: str) -> None:
    assert {family(name) for name in names} == {shared.rstrip(":")}


def test_variants_are_held_out_together_and_about_a_tenth_is() -> None:
    for verb in ("walking", "running", "cartwheeling", "swimming", "facepalming"):
        assert len({is_held_out(f"{who} {verb}") for who in ("man", "woman", "person")}) == 1
    share = sum(is_held_out(f"thing {number}") for number in range(5000)) / 5000
    assert 0.08 < share < 0.12


def test_the_hold_out_is_the_one_the_checkpoint_was_trained_with() -> None:
    held_out = ["pineapple", "croissant", "syringe", "anchor", "bicycle", "fox", "window", "man running", "avocado"]
    trained = ["dog", "pizza", "umbrella", "kangaroo", "guitar", "banana", "seat", "lobster", "airplane", "snake"]
    assert [name for name in held_out + trained if is_held_out(name)] == held_out


def test_names_of_the_hold_out_include_the_family() -> None:
    concepts = [Concept("1", "Man running", ()), Concept("2", "dog", ())]
    assert held_out_names(concepts) == {"man running", "running"}


# --- names of the icon sets


def test_firefox_icons_are_found_by_name_by_old_unicode_name_and_by_hand() -> None:
    concepts = {
        "1f34e": Concept("1F34E", "red apple", ()),
        "1f41e": Concept("1F41E", "lady beetle", ()),
        "1f697": Concept("1F697", "automobile", ()),
        "1f336": Concept("1F336", "hot pepper", ()),
        "2764-200d-1f525": Concept("2764-200D-1F525", "heart on fire", ()),
    }
    icons = dict.fromkeys(["redapple", "ladybeetle", "automobile", "chilipepper", "foxweary", "cjkunifiedideograph-a"])
    assert match_names(icons, concepts) == {
        "1f34e": "redapple",
        "1f41e": "ladybeetle",
        "1f697": "automobile",
        "1f336": "chilipepper",
    }
    assert match_names({"hotpepper": None}, concepts) == {"1f336": "hotpepper"}


def test_a_name_of_today_wins_over_an_old_one() -> None:
    # U+1F42A was named DROMEDARY CAMEL and is "camel" today; U+1F42B was BACTRIAN CAMEL.
    concepts = {"1f42a": Concept("1F42A", "camel", ()), "1f42b": Concept("1F42B", "dromedary camel", ())}
    assert match_names({"dromedarycamel": None}, concepts) == {"1f42b": "dromedarycamel"}


def test_names_by_hand_are_not_what_the_rule_would_find_anyway() -> None:
    assert all(re.fullmatch(r"[a-z0-9-]+", icon) for icon in BY_HAND)
    assert not [icon for icon, name in BY_HAND.items() if icon == name.replace(" ", "")]


def test_an_alias_mirrors_its_parent() -> None:
    icons = {
        "width": 32,
        "height": 32,
        "icons": {"left": {"body": '<rect width="8" height="32"/>'}},
        "aliases": {"right": {"parent": "left", "hFlip": True}, "lost": {"parent": "gone"}},
    }
    boxes = []
    for name in ("left", "right"):
        text = icon_svg(icons, name)
        assert text is not None
        data = render(Drawing(name, "svg", text.encode(), ANNOTATION))
        assert data is not None
        boxes.append(picture(data).getbbox())
    assert boxes == [(0, 0, 32, 128), (96, 0, 128, 128)]
    assert icon_svg(icons, "lost") is None


# --- clip art


@pytest.mark.parametrize(
    ("title", "label"),
    [
        ("Apple Pie (B and W)", "apple pie"),
        ("RedCar", "red car"),
        ("dog#3", "dog"),
        ("red_apple_02", "red apple"),
        ("Tom &amp; the clown", "clown"),
        ("Nitrox scuba tank", "scuba tank"),
        ("dog - animals", "dog"),
    ],
)
def test_titles_become_labels(title: str, label: str) -> None:
    assert label_of(title, "file", "Ann Author", ENGLISH) == label


@pytest.mark.parametrize("title", ["Mirjam Meijer", "hash(0x8a393fc)", "", "12345", "canguro"])
def test_titles_that_are_not_words_give_no_label(title: str) -> None:
    assert label_of(title, "xq_01", "Ann Author", ENGLISH) is None


def test_a_title_with_the_name_of_its_author_gives_no_label() -> None:
    assert label_of("Red Apple", "xq_01", "Josh Apple", ENGLISH) is None
    assert label_of("Red Apple", "xq_01", "Ann Author", ENGLISH) == "red apple"


def test_the_title_of_a_collection_gives_way_to_the_file_name() -> None:
    assert label_of("Clipart by Nicu Buculei - wall", "apple", "Nicu", ENGLISH) == "apple"
    assert label_of("SVG Road Signs", "contour_dog", "John", ENGLISH) == "dog"


def test_italian_titles_are_translated_for_their_author_only() -> None:
    assert label_of("Elefante01", "x", "Francesco Rollandin", ENGLISH) == "elephant"
    assert label_of("Various Cliparts", "foglie_rosse", "Francesco Rollandin", ENGLISH) == "red leaves"
    assert label_of("Various Cliparts", "mobile", "Nicu", ENGLISH) is None
    assert translate("Gelato all&amp;#39;italiana") == "ice cream"


def test_cleaning_leaves_single_spaced_words() -> None:
    assert clean("  A_Dog -- (old version 2)!  ") == "a dog"


def test_clip_art_carries_title_keywords_and_description() -> None:
    record = parse_record(
        clip_art("Bucket", ["tools", "hash(0x1)", "", "water"], description="Bucket with green water")
    )
    words = describe("tools/bucket.svg", record, {*ENGLISH, "tools"})
    assert words is not None
    assert (words.label, words.tags, words.captions) == ("bucket", ("tools", "water"), ("Bucket with green water",))
    assert words.licence == "public domain"
    assert words.extra["label_from"] == "title"


def test_a_telling_keyword_stands_in_for_a_title() -> None:
    words = describe("x.svg", parse_record(clip_art("Qwx", ["food", "apple"])), {*ENGLISH, "food"})
    assert words is not None
    assert (words.label, words.extra["label_from"]) == ("apple", "keyword")
    assert describe("x.svg", parse_record(clip_art("Qwx", ["food", "animal"])), {*ENGLISH, "food", "animal"}) is None


@pytest.mark.parametrize(
    ("title", "keywords", "licence"),
    [("Dog", [], "GPL"), ("Dog", ["flag"], "PublicDomain"), ("Naked dog", [], "PublicDomain")],
)
def test_clip_art_that_is_left_out(title: str, keywords: list[str], licence: str) -> None:
    assert describe("x.svg", parse_record(clip_art(title, keywords, licence)), {*ENGLISH, "naked", "flag"}) is None
    assert describe("x.svg", parse_record(clip_art("Dog", [])), ENGLISH) is not None


def test_unreadable_metadata_is_left_out() -> None:
    assert parse_record(b"<svg><rect/></svg>") is None
    assert parse_record(b"<svg><cc:Work><dc:title>a & b</dc:title></cc:Work></svg>") is None


def test_held_out_names_are_seen_in_any_number_and_inside_phrases() -> None:
    held_out = {"bear", "ice cream", "fox"}
    assert names_any(held_out, ["two polar bears"])
    assert names_any(held_out, ["Ice Cream cone"])
    assert names_any(held_out, ["animal", "foxes"])
    assert not names_any(held_out, ["foxglove", "ice, cold cream jug", "bearing"])
