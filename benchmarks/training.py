"""How fast does our loop train against the HF Trainer and TRL's SFTTrainer? Prints a table, writes JSON.

    pip install -c constraints.txt trl datasets
    OMP_NUM_THREADS=1 python -m benchmarks.training --rounds 5

The same model (a LLaVA: language model of width 512 and 8 blocks, vision tower of width 384 and 12 blocks, 256 tokens
an image, LoRA of rank 16 on q and v, projector trained), the same samples in each step, float32. The peers get one
sample per row, as LLaVA trains; ours packs the samples of an image. A step of `mixed` is four micro-batches of eight:
ours deals its samples by length, the peers in the random order that is their default. All get ready tensors: what is
measured is forward, backward and optimiser step, inside each trainer's own loop. A round runs one step of each, in
rotating order; figures are medians over rounds of CPU seconds, ratios of the same round. Peak: tensor bytes alive at
once (dispatch-mode tracker), weights and moments included. The JSON keeps what other runs found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from benchmarks.machine import machine
from components.batching.collator import Batch
from components.batching.conversation import IGNORED, Encoded
from components.batching.packing import pack, pad
from components.batching.sampler import deal
from components.costs.peak_memory import PeakMemory
from components.model.assemble import build
from components.model.base import Base
from components.model.vision_tower import stop_after_last_level
from components.params import Params, load_params
from components.training.engine import start_engine
from components.training.guard import Guard
from components.training.loss import SupervisedLoss
from components.training.step import train_step

IMAGE, PADDING, TEMPLATE, PATCHES, VOCABULARY = 3, 0, 35, 256, 8000
Unit = list[Encoded]  # the samples of one image


def words(chance: random.Random, count: int) -> list[int]:
    return [chance.randrange(10, VOCABULARY) for _ in range(count)]


def sample(chance: random.Random, question: list[int], answer: int, patches: int = PATCHES) -> Encoded:
    template = list(range(10, 10 + TEMPLATE))  # the same for all
    asked = [*template, *[IMAGE] * patches, *question]
    said = words(chance, answer)
    return Encoded([*asked, *said], [IGNORED] * len(asked) + said)


def unifood(chance: random.Random, images: int = 2, patches: int = PATCHES) -> list[Unit]:
    """Three tasks, each with its own question."""
    return [[sample(chance, words(chance, 10), length, patches) for length in (50, 140, 50)] for _ in range(images)]


def flickr30k(chance: random.Random, images: int = 2, patches: int = PATCHES) -> list[Unit]:
    """Five captions; "Provide a one-sentence caption for the provided image." is the question of all."""
    question = words(chance, 10)
    return [[sample(chance, question, 15, patches) for _ in range(5)] for _ in range(images)]


def mixed(chance: random.Random) -> list[Unit]:
    return [
        [sample(chance, words(chance, chance.randint(5, 40)), chance.choice((2, 5, 20, 80, 200)))] for _ in range(32)
    ]


SHAPES: dict[str, Callable[[random.Random], list[Unit]]] = {"unifood": unifood, "flickr30k": flickr30k, "mixed": mixed}
MICRO_BATCHES = {"unifood": 1, "flickr30k": 1, "mixed": 4}
GOALS = {"unifood": 2.5, "flickr30k": 4.5, "mixed": 1.15}


def model() -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=6,
        image_size=224,
        patch_size=14,
    )
    language = LlamaConfig(
        hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8, vocab_size=VOCABULARY
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=language,
        image_token_index=IMAGE,
        image_seq_length=PATCHES,
        vision_feature_layer=-2,
    )
    return LlavaForConditionalGeneration(config)


def settings() -> Params:
    params = load_params()
    adapter = params.adapter.model_copy(update={"kind": "lora", "rank": 16, "targets": ["q_proj", "v_proj"]})
    training = params.training.model_copy(update={"workers": 1, "zero_stage": 0, "micro_batch": 8})
    return params.model_copy(update={"adapter": adapter, "training": training})


class Ours:
    """Our engine; samples of an image are one sequence, in micro-batches of like length where there are many."""

    def __init__(self, params: Params, micro_batches: int = 1) -> None:
        llava, _ = build(Base(model(), None, None, {}), None, params.adapter)
        stop_after_last_level(llava)
        module = SupervisedLoss(llava.train())
        workers = dist.get_world_size()
        self.engine = start_engine(module, params.finetune, params.training, 10**6, micro_batches, workers)
        self.micro_batches = micro_batches
        self.parameters = list(module.parameters())

    def step(self, units: list[Unit], pixels: torch.Tensor, memory: PeakMemory | None = None) -> float:
        lengths = np.array([sum(len(one.ids) for one in unit) for unit in units])
        whole = [np.array([number] * len(unit)) for number, unit in enumerate(units)]
        parts = deal(whole, lengths, np.ones(len(units), bool), 0, 1, self.micro_batches)
        batches = [batch([units[one[0]] for one in part], pixels[[one[0] for one in part]]) for part in parts]
        started = time.process_time()
        with memory or nullcontext():
            train_step(self.engine, batches, Guard(0))
        return time.process_time() - started


def batch(units: list[Unit], pixels: torch.Tensor) -> Batch:
    has_image = torch.ones(len(units), dtype=torch.bool)
    tokens = {**pad([pack(unit) for unit in units], PADDING), "has_image": has_image}
    return Batch(tokens, pixels, sum(map(len, units)), num_refused=0)


class Peer:
    """A trainer of the HF family, run for one step at a time through its own `train`."""

    def __init__(self, params: Params, kind: str, micro_batches: int) -> None:
        from transformers import Trainer, TrainerCallback, TrainingArguments

        llava, _ = build(Base(model(), None, None, {}), None, params.adapter)
        self.model, peer = llava.train(), self
        self.parameters = list(llava.parameters())
        self.rows: list[dict[str, Any]] = []
        self.memory: PeakMemory | None = None

        class Clock(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                if peer.memory:
                    peer.memory.__enter__()
                peer.started = time.process_time()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                peer.seconds = time.process_time() - peer.started
                if peer.memory:
                    peer.memory.__exit__(None, None, None)

        common: dict[str, Any] = {
            "output_dir": tempfile.mkdtemp(),
            "max_steps": 1,
            "report_to": [],
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "use_cpu": True,
            "remove_unused_columns": False,
            "learning_rate": 1e-4,
            "gradient_accumulation_steps": micro_batches,
        }
        self.started = self.seconds = 0.0
        if kind == "trainer":
            self._make: Callable[[], Any] = lambda: Trainer(
                model=llava,
                args=TrainingArguments(**common, per_device_train_batch_size=len(self.rows) // micro_batches),
                train_dataset=self.rows,  # type: ignore[arg-type]
                data_collator=collated,
                callbacks=[Clock()],
            )
        else:
            from datasets import Dataset  # pyright: ignore[reportMissingImports]
            from trl import SFTConfig, SFTTrainer  # pyright: ignore

            self._make = lambda: SFTTrainer(
                model=llava,  # type: ignore[arg-type]
                args=SFTConfig(
                    **common,
                    per_device_train_batch_size=len(self.rows) // micro_batches,
                    dataset_kwargs={"skip_prepare_dataset": True},
                    max_length=None,
                    bf16=False,
                    gradient_checkpointing=False,
                ),
                train_dataset=Dataset.from_list([{"row": number} for number in range(len(self.rows))]),
                data_collator=lambda chosen: collated([self.rows[one["row"]] for one in chosen]),
                processing_class=tokenizer(),
                callbacks=[Clock()],
            )

    def step(self, units: list[Unit], pixels: torch.Tensor, memory: PeakMemory | None = None) -> float:
        flat = [(one, pixels[number]) for number, unit in enumerate(units) for one in unit]
        self.rows = [{"ids": one.ids, "labels": one.labels, "pixels": image} for one, image in flat]
        trainer, self.memory = self._make(), memory
        trainer.train()
        return self.seconds


def collated(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["ids"]) for row in rows)

    def filled(values: list[int], filler: int) -> list[int]:
        return values + [filler] * (longest - len(values))

    return {
        "input_ids": torch.tensor([filled(row["ids"], PADDING) for row in rows]),
        "labels": torch.tensor([filled(row["labels"], IGNORED) for row in rows]),
        "attention_mask": torch.tensor([filled([1] * len(row["ids"]), 0) for row in rows]),
        "pixel_values": torch.stack([row["pixels"] for row in rows]),
    }


def tokenizer() -> Any:
    """TRL wants one; it has nothing to do."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def compare(shape: str, rounds: int, peers: list[str]) -> dict[str, Any]:
    params, micro_batches = settings(), MICRO_BATCHES[shape]
    runners: dict[str, Any] = {"ours": Ours(params, micro_batches)}
    runners |= {name: Peer(params, name, micro_batches) for name in peers}
    names, seconds = list(runners), {name: list[float]() for name in runners}
    for turn in range(-1, rounds):
        chance = random.Random(turn)
        units = SHAPES[shape](chance)
        pixels = torch.randn(len(units), 3, 224, 224, generator=torch.Generator().manual_seed(turn + 1))
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            taken = runners[name].step(units, pixels)
            if turn >= 0:  # the first step of each is for warming up
                seconds[name].append(taken)
    peaks = {}
    for name, runner in runners.items():
        memory = PeakMemory(*runner.parameters, *moments(runner), pixels)
        runner.step(units, pixels, memory)
        peaks[name] = memory.peak
    samples = sum(map(len, units))
    return {
        name: {
            "samples_per_s": samples / statistics.median(taken),
            "ours_faster": statistics.median(t / o for t, o in zip(taken, seconds["ours"], strict=True)),
            "peak_bytes": peaks[name],
            "ours_peak_share": peaks["ours"] / peaks[name],
        }
        for name, taken in seconds.items()
    }


def moments(runner: Any) -> list[torch.Tensor]:
    optimizer = getattr(getattr(runner, "engine", None), "optimizer", None)
    states = optimizer.state.values() if optimizer else ()
    return [tensor for state in states for tensor in state.values() if isinstance(tensor, torch.Tensor)]


def weak_scaling(rounds: int) -> dict[str, Any]:
    """Wall seconds of a step of one worker, and of two with the same share each, one thread each."""
    with tempfile.TemporaryDirectory() as folder:
        taken = {}
        for workers in (1, 2):
            out = Path(folder) / f"{workers}.json"
            mp.spawn(_scale, (workers, rounds, folder, str(out)), nprocs=workers)  # type: ignore[arg-type]
            taken[workers] = json.loads(out.read_text(encoding="utf-8"))
    return {"seconds": taken, "efficiency": statistics.median(taken[1]) / statistics.median(taken[2])}


def _scale(rank: int, workers: int, rounds: int, folder: str, out: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(workers), LOCAL_RANK=str(rank), DS_ACCELERATOR="cpu")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29731")
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store-{workers}", workers)  # pyright: ignore
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers)
    params = settings()
    training = params.training.model_copy(update={"zero_stage": 2, "workers": workers})
    runner, taken = Ours(params.model_copy(update={"training": training})), []
    pixels = torch.randn(2, 3, 224, 224)
    for turn in range(rounds + 1):
        units = unifood(random.Random(turn * workers + rank))
        dist.barrier()
        started = time.monotonic()
        runner.step(units, pixels)
        taken.append(time.monotonic() - started)
    if rank == 0:
        Path(out).write_text(json.dumps(taken[1:]), encoding="utf-8")
    dist.destroy_process_group()


def table(results: dict[str, Any]) -> str:
    lines = [f"{'shape':<12}{'trainer':<12}{'samples/s':>11}{'ours x':>9}{'goal':>7}{'peak MB':>10}{'ours share':>12}"]
    for shape, found in results["shapes"].items():
        for name, row in found["methods"].items():
            goal = GOALS[shape] if name != "ours" else ""
            speed = f"{row['samples_per_s']:>11.2f}{row['ours_faster']:>9.2f}{goal:>7}"
            peak = f"{row['peak_bytes'] / 1e6:>10.0f}{row['ours_peak_share']:>12.2f}"
            lines.append(f"{shape:<12}{name:<12}{speed}{peak}")
    if "weak_scaling" in results:
        lines.append(f"weak scaling 1 -> 2 workers: {results['weak_scaling']['efficiency']:.2f} (goal 0.85)")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--peers", nargs="*", default=["trainer", "trl"], choices=["trainer", "trl"])
    parser.add_argument("--scaling", action="store_true", help="weak scaling from 1 to 2 workers too")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/training.json"))
    args = parser.parse_args()
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    results: dict[str, Any] = {"shapes": {}}
    if args.output.exists():
        results |= json.loads(args.output.read_text(encoding="utf-8"))
    where = {
        "machine": machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rounds": args.rounds,
    }
    if args.scaling:
        results["weak_scaling"] = {"where": where, **weak_scaling(args.rounds)}
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())  # pyright: ignore
    for shape in args.shapes:
        results["shapes"][shape] = {"where": where, "methods": compare(shape, args.rounds, args.peers)}
    dist.destroy_process_group()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
