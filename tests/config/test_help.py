"""Help pages: the settings that people use first, under headings, within 80 columns; all of them with --help-all."""

import re

import pytest

from ftkit.config import list_entries
from ftkit.config.catalogue import load_recipe
from ftkit.config.help import HEADINGS, first_settings, help_page
from ftkit.config.launch import main_settings

RECIPES = {entry.name: entry for entry in list_entries() if entry.kind == "recipe"}


def page(name: str, *, every: bool = False) -> list[str]:
    path = RECIPES[name].path
    return list(help_page(path, main_settings(load_recipe(path).main), 80, every=every))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("every", [False, True])
def test_a_help_page_fits_80_columns_and_names_each_of_its_settings_once(name, every):
    lines = page(name, every=every)
    assert [line for line in lines if len(line) > 80] == []
    fields = main_settings(load_recipe(RECIPES[name].path).main).model_fields
    shown = [found[1] for line in lines if (found := re.match(r"  --(\w+)", line))]
    expected = [
        *(fields if every else first_settings(fields)),
        "config",
        "fast",
        *(["sweep", "seeds"] if every else []),
    ]
    assert sorted(shown) == sorted(expected)
    assert len(lines) < 75 or every
    assert lines.index("Examples") < next(number for number, line in enumerate(lines) if line.startswith("  --"))


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "numerics"])
def test_the_first_settings_say_on_what_it_trains_from_what_and_where_it_goes(name):
    first = first_settings(main_settings(load_recipe(RECIPES[name].path).main).model_fields)
    assert len(first) == 10
    assert {"model", "max_steps", "output_dir"} <= {*first}
    assert {*first} & {"corpus", "corpora", "examples", "labelled"}


def test_defaults_choices_and_ranges_are_shown():
    assert "[at least 0; default: 5e-5]" in " ".join(" ".join(page("compare_tuning", every=True)).split())
    first, every = (" ".join(" ".join(page("imitate", every=every)).split()) for every in (False, True))
    assert "--learning_rate NUMBER Peak learning rate of AdamW. [default: by model and text]" in first
    assert "--window_tokens N" in first
    assert "[default: by model and text]" in first
    assert "[none | lora | dora | rslora | ia3 | prefix | prompt | bias | tokens; default: by model and text]" in first
    assert "[at least 0 and below 4,294,967,296; default: 42]" in every
    assert re.search(r"All \d\d settings: --help-all\.", first)


def test_every_setting_that_several_recipes_have_stands_under_a_heading():
    fields = [{*main_settings(load_recipe(entry.path).main).model_fields} for entry in RECIPES.values()]
    shared = {name for one in fields for name in one if sum(name in other for other in fields) > 2}
    listed = [name for names in HEADINGS.values() for name in names.split()]
    assert len(shared) > 50
    assert shared - {*listed} == set(), "add them to HEADINGS in ftkit/config/help.py"
    assert len(listed) == len({*listed})
    assert {*listed} - {name for one in fields for name in one} == set()
