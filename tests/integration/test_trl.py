"""Exports as the trainers that they are for read them: TRL's own checks and preparations.

A tokenizer and a model of a few hundred weights stand in for real ones; nothing is trained.
"""

import os
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
datasets = pytest.importorskip("datasets")
pytest.importorskip("trl")

from analysis.export import ExportFormat, ExportPlan, write_export  # noqa: E402
from analysis.export_filters import Filters  # noqa: E402
from analysis.manifest import ExportSource  # noqa: E402
from analysis.row_files import COLUMNS, FileForm  # noqa: E402
from tests.unit.results_sample import config, label, result, revision  # noqa: E402

# Other people's warnings are not ours to answer.
pytestmark = pytest.mark.filterwarnings("ignore")

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} <end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello?"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Where is the key?"},
]
JOBS = [
    result("a", preferences=[label(0.2), label(0.9, revision_try=2, response_b="other")]),
    result(
        "b",
        prompt=TURNS,
        preferences=[label(0.3, principle="clarity", response_a="under it", response_b="in it")],
        revisions=[revision()],
    ),
]


def exported(folder: Path, fmt: ExportFormat, form: FileForm) -> Any:
    """An export, read back by the datasets library."""
    out = folder / f"{fmt}.{form}"
    made = ExportSource("sample", config(), "0", "default 1", "1")
    write_export(out, JOBS, made, ExportPlan(fmt, Filters.of(config()), form))
    kind = "json" if form == "jsonl" else form
    cache = str(folder / "cache")
    return datasets.load_dataset(kind, data_files=str(out), split="train", cache_dir=cache)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [
        "<unk>",
        "<end>",
        "<pad>",
        "<user>",
        "<assistant>",
        "What",
        "now",
        "revised",
        "current",
    ]
    plain = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="<unk>", eos_token="<end>", pad_token="<pad>"
    )
    made.chat_template = TEMPLATE
    return made


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("fmt", ["trl-preference", "trl-unpaired", "sft"])
def test_datasets_read_back_what_was_written(
    tmp_path: Path, fmt: ExportFormat, form: FileForm
) -> None:
    found = exported(tmp_path, fmt, form)
    assert found.column_names == list(COLUMNS[fmt])
    rows = {tuple(m["content"] for m in row["prompt"]): row for row in found}
    assert [dict(m) for m in rows[tuple(t["content"] for t in TURNS)]["prompt"]] == TURNS
    assert len(found) == {"trl-preference": 3, "trl-unpaired": 4, "sft": 2}[fmt]


@pytest.mark.parametrize("fmt", ["trl-preference", "trl-unpaired", "sft"])
def test_rows_pass_the_checks_of_trl(tmp_path: Path, tokenizer: Any, fmt: ExportFormat) -> None:
    from trl import apply_chat_template, is_conversational, maybe_extract_prompt

    answers = {"trl-preference": ("chosen", "rejected")}.get(fmt, ("completion",))
    for row in exported(tmp_path, fmt, "jsonl"):
        assert is_conversational(row)
        assert maybe_extract_prompt(row) == row, "the prompt is explicit already"
        said = apply_chat_template(row, tokenizer)
        assert said["prompt"].endswith("<assistant> ")
        assert [said[name] for name in answers] == [
            f"{row[name][0]['content']} <end>" for name in answers
        ]


def test_single_responses_are_what_trl_makes_of_pairs_but_for_contradictions(
    tmp_path: Path,
) -> None:
    from trl import unpair_preference_dataset

    def singles(rows: Any) -> set[tuple[str, str, bool]]:
        return {
            (r["prompt"][-1]["content"], r["completion"][0]["content"], r["label"]) for r in rows
        }

    theirs = singles(unpair_preference_dataset(exported(tmp_path, "trl-preference", "jsonl")))
    ours = singles(exported(tmp_path, "trl-unpaired", "jsonl"))
    assert theirs - ours == {("What now?", "current", True), ("What now?", "current", False)}
    assert ours < theirs


@pytest.mark.parametrize(
    ("fmt", "kind", "columns"),
    [
        ("trl-preference", "DPO", {"prompt_ids", "chosen_ids", "rejected_ids"}),
        ("trl-unpaired", "KTO", {"prompt_ids", "completion_ids", "label"}),
        ("sft", "SFT", {"input_ids", "labels"}),
    ],
)
def test_trainers_prepare_the_rows_and_make_a_batch(
    tmp_path: Path, tokenizer: Any, fmt: ExportFormat, kind: str, columns: set[str]
) -> None:
    import trl
    from transformers import LlamaConfig, LlamaForCausalLM

    small = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    reference = {} if kind == "SFT" else {"ref_model": LlamaForCausalLM(small)}
    rows = exported(tmp_path, fmt, "parquet")
    settings = getattr(trl, f"{kind}Config")(
        output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False,
        per_device_train_batch_size=2,
    )  # fmt: skip
    trainer = getattr(trl, f"{kind}Trainer")(
        model=LlamaForCausalLM(small),
        args=settings,
        train_dataset=rows,
        processing_class=tokenizer,
        **reference,
    )
    assert columns <= set(trainer.train_dataset.column_names)
    assert len(trainer.train_dataset) == len(rows)
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["input_ids"].shape[0] == (4 if kind == "DPO" else 2)
