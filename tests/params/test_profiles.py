from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.errors import UserError
from components.params import load_params, profiles
from components.params.reading import read_tree
from components.params.trees import flatten
from pipelines import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml"))


def keys(name: str) -> set[str]:
    tables = tuple(f"{table}." for table in profiles.REPLACED)
    found = set()
    for key in flatten(profiles.overlay(name)):
        table = next((table for table in tables if f"{key}.".startswith(table)), None)
        found.add(table or key)
    return found


@pytest.mark.parametrize("name", profiles.names())
def test_every_profile_sets_the_same_keys(name: str) -> None:
    # so that the way back from any profile leaves nothing of it behind
    assert keys(name) == keys("tiny")


@pytest.mark.parametrize("name", profiles.names())
def test_profile_gives_valid_params_under_its_name(name: str, settings: Path) -> None:
    profiles.apply(name, settings)
    assert load_params(settings).profile == name


@pytest.mark.parametrize("name", sorted(set(profiles.names()) - {"tiny"}))
def test_profile_says_only_what_differs_from_the_one_it_extends(name: str) -> None:
    said = read_tree(profiles.FOLDER / f"{name}.yaml")
    parent = flatten(profiles.overlay(said.pop("extends")))
    tables = tuple(f"{table}." for table in profiles.REPLACED)
    repeated = [key for key, value in flatten(said).items() if parent.get(key) == value]
    assert [key for key in repeated if not key.startswith(tables)] == []


def test_there_and_back_restores_every_byte(settings: Path) -> None:
    before = settings.read_bytes()
    for name in (*profiles.names(), "tiny"):
        profiles.apply(name, settings)
    assert settings.read_bytes() == before


def test_a_linked_windows_file_stays_one_with_its_permissions(settings: Path, tmp_path: Path) -> None:
    before = b"\xef\xbb\xbf" + settings.read_bytes().replace(b"\n", b"\r\n")
    mine = tmp_path / "mine.yaml"
    mine.write_bytes(before)
    mine.chmod(0o640)
    settings.unlink()
    settings.symlink_to(mine.name)
    assert profiles.apply("compose", settings)
    assert settings.is_symlink()
    assert mine.stat().st_mode & 0o777 == 0o640
    assert load_params(mine).profile == "compose"
    profiles.apply("tiny", settings)
    assert mine.read_bytes() == before


def test_a_profile_depends_on_no_profile_before_it(settings: Path, tmp_path: Path) -> None:
    first = Path(shutil.copy(settings, tmp_path / "first.yaml"))
    profiles.apply("vlora", first)
    for name in ("llava-1.5-13b", "photos", "vlora"):
        profiles.apply(name, settings)
    assert load_params(settings) == load_params(first)


@pytest.mark.parametrize(
    ("extends", "problem"), [("one", "extends itself"), ("nobody", "extends 'nobody', which is no profile")]
)
def test_extends_that_leads_nowhere(
    extends: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "FOLDER", tmp_path)
    (tmp_path / "one.yaml").write_text(f"extends: {extends}\nprofile: one\n", encoding="utf-8")
    with pytest.raises(UserError, match=problem):
        profiles.overlay("one")


def test_a_profiles_comments_stay_with_it(settings: Path) -> None:
    for name in ("llava-1.5-7b-general", "vlora", "tiny"):
        profiles.apply(name, settings)
    text = settings.read_text(encoding="utf-8")
    for said in ("nothing is drawn", "files of their own", "80 GiB"):
        assert said not in text
    assert "judge: #" in text


def test_committed_params_are_the_tiny_profile(settings: Path) -> None:
    assert profiles.apply("tiny", settings) == []


def test_hand_edits_and_comments_survive(settings: Path) -> None:
    text = settings.read_text(encoding="utf-8").replace("seed: 17", "seed: 99 # mine")
    settings.write_text(text, encoding="utf-8")
    profiles.apply("photos", settings)
    assert load_params(settings).seed == 99
    assert "# mine" in settings.read_text(encoding="utf-8")


def test_difference_names_key_before_and_after(settings: Path) -> None:
    changes = {key: (before, after) for key, before, after in profiles.apply("llava-1.5-7b", settings)}
    assert changes["adapter.rank"] == (8, 64)
    assert changes["profile"] == ("tiny", "llava-1.5-7b")
    assert "adapter.kind" not in changes


def test_difference_says_what_is_removed_and_names_no_emptied_table(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(settings.parent)
    verb = cli.VERBS["profile"]
    verb.run(cli.parser().parse_args(["profile", "llava-1.5-7b"]))
    printed = capsys.readouterr().out.splitlines()
    assert "  plates.sets.captions: 2500 -> (removed)" in printed
    assert "  registry.gate.not_worse.recipe.rouge_l: (not set) -> 0.5" in printed
    assert not [line for line in printed if line.startswith("  plates.sets:") or "null" in line]
    assert printed[-1].endswith("Next: lea plan, then dvc repro")
    verb.run(cli.parser().parse_args(["profile", "tiny"]))
    printed = capsys.readouterr().out.splitlines()
    assert "  plates.sets.captions: (not set) -> 2500" in printed
    assert printed[-1].endswith("Next: dvc repro")


def test_settings_as_they_were_are_kept(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(settings.parent)
    monkeypatch.delenv("LEA_HOME", raising=False)
    before = settings.read_text(encoding="utf-8").replace("seed: 17", "seed: 99 # mine, not committed")
    settings.write_text(before, encoding="utf-8")
    cli.VERBS["profile"].run(cli.parser().parse_args(["profile", "photos"]))
    (said,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("params.yaml as it was: ")]
    assert Path(said.partition(": ")[2]).read_text(encoding="utf-8") == before
    cli.VERBS["profile"].run(cli.parser().parse_args(["profile", "photos"]))
    assert "as it was" not in capsys.readouterr().out


def test_unknown_profile_names_the_nearest(settings: Path) -> None:
    before = settings.read_text(encoding="utf-8")
    with pytest.raises(UserError, match="did you mean tiny"):
        profiles.apply("tinny", settings)
    assert settings.read_text(encoding="utf-8") == before


def test_profile_that_does_not_fit_leaves_the_file_alone(settings: Path) -> None:
    text = settings.read_text(encoding="utf-8").replace("dropout: 0.05", "dropout: 7.0").replace("seed: 17", "seed: -1")
    settings.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="seed must be at least 0"):
        profiles.apply("photos", settings)
    assert settings.read_text(encoding="utf-8") == text


def test_released_profile_states_the_scripts_of_the_authors(settings: Path) -> None:
    """finetune_lava_1_5_7b_stage1.sh and _stage2.sh, config/config.yaml and VCE_Module.query_layer of FHTC a4d92c4."""
    profiles.apply("llava-1.5-7b-released", settings)
    params = load_params(settings)
    first, second = params.pretrain, params.finetune
    assert (first.global_batch, second.global_batch) == (4 * 8 * 8, 4 * 4 * 8)
    assert (first.learning_rate.projector, first.learning_rate.vce) == (1e-3, 1e-3)
    assert (second.learning_rate.adapter, second.learning_rate.projector, second.learning_rate.vce) == (
        2e-4,
        2e-5,
        2e-5,
    )
    for stage in (first, second):
        assert (stage.epochs, stage.template, stage.image, stage.tasks) == (5, "v1", "pad", [])
        assert (stage.max_length, stage.warmup, stage.weight_decay) == (2048, 0.03, 0)
    assert (params.adapter.form, params.adapter.rank, params.adapter.alpha_over_rank) == ("released", 32, 2)
    assert (params.vce.form, params.vce.anchor, params.vce.levels) == ("released", -20, [-2, -8, -14, -20])
    assert (params.vce.num_heads, params.vce.num_points) == (16, 4)
    assert params.evaluate.max_new_tokens == 1024


def test_downstream_profile_states_the_papers_recipe(settings: Path) -> None:
    # paper appendix B and section 4.1
    profiles.apply("llava-1.5-7b", settings)
    params = load_params(settings)
    assert (params.pretrain.global_batch, params.finetune.global_batch) == (256, 128)
    assert params.pretrain.learning_rate.projector == 1e-3
    assert (params.finetune.learning_rate.adapter, params.finetune.learning_rate.projector) == (2e-4, 2e-5)
    assert (params.adapter.rank, params.adapter.alpha_over_rank, params.adapter.dropout) == (64, 2, 0.05)
    assert params.vce.levels == [-2, -8, -14, -20]
