"""Each toolkit's way to read an answer, by cases worked out by hand from its published scripts."""

import pytest

from components.evaluation.rules import letters, yes_no

OPTIONS = {"A": "a dog", "B": "a cat", "C": "two cats"}


@pytest.mark.parametrize(
    ("text", "llava", "mme", "lmms_mme", "lmms_pope", "vlmevalkit"),
    [
        # LLaVA: eval_pope.py. MME: calculation.py. lmms-eval: tasks/mme, tasks/pope. VLMEvalKit: YOrN_Extraction.
        ("Yes", "yes", "yes", "yes", "yes", "yes"),
        ("No", "no", "no", "no", "no", "no"),
        ("no.", "no", "no", "no", "other", "no"),
        ("No, there is a cat", "no", "no", "no", "other", "no"),
        ("There is not. Yes", "no", "other", "other", "other", "yes"),
        ("Yes. There is no dog", "yes", "yes", "yes", "other", "other"),
        ("NO", "yes", "no", "no", "no", "no"),  # LLaVA knows No, not, no in these very spellings
        ("nothing", "yes", "no", "no", "other", "other"),  # MME looks at four characters
        ("   yes", "yes", "other", "yes", "yes", "yes"),  # .. and lmms-eval takes blanks out first
        ("y", "yes", "other", "yes", "other", "other"),
        ("I see it", "yes", "other", "other", "other", "other"),
        ("", "yes", "other", "other", "other", "other"),  # silence is yes to LLaVA
        # VLMEvalKit's list of marks knows no colon and no apostrophe; a mark beside a blank is dropped, else a blank.
        ("yes: it is", "yes", "yes", "yes", "other", "other"),
        ("'yes'", "yes", "yes", "yes", "other", "other"),
        ("no-one", "yes", "no", "no", "other", "no"),
        ("no-one - none", "yes", "no", "no", "other", "other"),
        ("(yes)", "yes", "yes", "yes", "other", "yes"),
        ("1,000 yes/2", "yes", "other", "other", "other", "other"),
        ("yes.it", "yes", "yes", "yes", "other", "other"),
        ("yes.", "yes", "yes", "yes", "other", "yes"),
    ],
)
def test_yes_and_no(text: str, llava: str, mme: str, lmms_mme: str, lmms_pope: str, vlmevalkit: str) -> None:
    found = [
        rule(text)
        for rule in (
            yes_no.llava,
            yes_no.first_four,
            yes_no.lmms_eval_mme,
            yes_no.lmms_eval_pope,
            yes_no.vlmevalkit,
        )
    ]
    assert found == [llava, mme, lmms_mme, lmms_pope, vlmevalkit]


@pytest.mark.parametrize(
    ("text", "exact", "leading", "first", "scienceqa", "vlmevalkit"),
    [
        ("B", "B", "B", "B", "B", "B"),
        ("b", None, None, "B", "B", None),
        ("B. a cat", None, "B", "B", "B", "B"),
        ("(B) a cat", None, "B", None, None, "B"),
        ("Because", None, None, "B", None, None),
        ("The answer is B", None, None, None, None, "B"),
        ("a cat", None, None, "A", None, "B"),  # by the option's own words
        ("a dog and two cats", None, None, "A", None, None),  # two options' words: neither
        ("A and B", None, None, "A", None, None),
        ("D", None, None, None, None, None),  # no such option
        ("", None, None, None, None, None),
    ],
)
def test_letters(
    text: str, exact: str | None, leading: str | None, first: str | None, scienceqa: str | None, vlmevalkit: str | None
) -> None:
    found = [
        rule(text, OPTIONS)
        for rule in (
            letters.exact,
            letters.leading,
            letters.first_character,
            letters.lmms_eval_scienceqa,
            letters.vlmevalkit,
        )
    ]
    assert found == [exact, leading, first, scienceqa, vlmevalkit]


def test_an_empty_option_is_not_named_by_any_answer() -> None:
    assert letters.vlmevalkit("two cats, I think", {"A": "", "B": "a dog", "C": "two cats"}) == "C"


@pytest.mark.parametrize(
    "text",
    [
        "Sorry, I can't help with images of people yet.",
        "I can't process this file. It may hold people",
        "I'm sorry, but without the image provided I see no people",
        "Cannot determine the answer: people",
        "Z. no people",
    ],
)
def test_a_refusal_names_no_option_to_vlmevalkit(text: str) -> None:
    options = {"A": "a dog that runs over the grass", "B": "people", "C": "two cats on a sofa in the sun"}
    assert letters.vlmevalkit("It shows people", options) == "B"
    assert letters.vlmevalkit(text, options) is None
    assert letters.vlmevalkit("The answer is B, not Z", options) == "B"
