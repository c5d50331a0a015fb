"""Distillation: which parameters a term moves, what it learns from, and what it hands on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from napari_espmedsam.errors import CheckpointError, InputError
from napari_espmedsam.model.config import DecoderConfig, TinyViTConfig
from napari_espmedsam.model.esp_medsam import ESPMedSAM
from napari_espmedsam.model.med_fastsam import MedFastSAM
from napari_espmedsam.model.registry import create_model
from napari_espmedsam.model.tiny_vit import TinyViT
from training import loop
from training.distill import DistillConfig, DistillTask, distill, flkd
from training.distilled import is_medical, load_distilled
from training.embeddings import to_grid, view_image
from training.run import BEST, load_state
from training.teacher import EncoderTeacher, TeacherSpec, create_med_teacher, create_teacher

LITE = TinyViTConfig(
    widths=(8, 8, 8, 16),
    depths=(1, 1, 1, 1),
    heads=(1, 1, 1, 2),
    out_channels=16,
    patch_stride=1,
)
PLAIN = {"geometry": "whole", "size": 64, "mean": [0, 0, 0], "std": [1, 1, 1]}


def silent(line: str) -> None:
    del line


@pytest.fixture
def spec(tmp_path: Path) -> TeacherSpec:
    """A tiny teacher: 64 px in, a grid of 16 x 16 out."""
    torch.manual_seed(0)
    path = tmp_path / "lite.pth"
    torch.save({f"image_encoder.{k}": v for k, v in TinyViT(LITE).state_dict().items()}, path)
    return TeacherSpec(weights=path, size=64, trunk=LITE)


@pytest.fixture
def natural(tmp_path: Path) -> Path:
    """Eight coloured images of different sizes."""
    folder = tmp_path / "natural" / "deeper"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(8):
        coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (70 + i, 60), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"{i}.png"), image)
    (folder / "notes.txt").write_text("no image")
    return folder.parent


def changed(config: DistillConfig, **fields: Any) -> DistillConfig:
    return DistillConfig.model_validate({**config.model_dump(), **fields})


@pytest.fixture
def common(spec: TeacherSpec, natural: Path, tmp_path: Path) -> DistillConfig:
    """A tiny common term."""
    return DistillConfig.model_validate(
        {
            "name": "common",
            "architecture": "esp_medsam_test",
            "term": "common",
            "teacher": spec,
            "natural": {"folders": [natural], "input": PLAIN, "validate_every": 4},
            "size": 64,
            "warm_start": "none",
            "cache": tmp_path / "cache",
            "teacher_batch": 3,
            "batch_size": 4,
            "steps": 2,
            "precision": "float32",
            "device": "cpu",
            "threads": 1,
            "optimiser": {"lr": 1e-2, "warmup_steps": 0},
        }
    )


@pytest.fixture
def specific(common: DistillConfig, spec: TeacherSpec, pack: Path, tmp_path: Path) -> DistillConfig:
    """A tiny specific term of two modalities, with a teacher that has medical parts."""
    del pack
    small = {"decoder": DecoderConfig(depth=1, heads=2, mlp_dim=8)}
    medical = spec.medical.model_copy(update=small)
    teacher = create_med_teacher(spec.model_copy(update={"medical": medical}), ("a", "b"))
    adapted = teacher.save_adapted(tmp_path / "adapted.safetensors")
    source = {"packs": ["discs"], "input": PLAIN}
    return changed(
        common,
        term="specific",
        natural=None,
        modalities={"a": source, "b": source},
        teacher=spec.model_copy(update={"adapted": adapted}),
    )


def weights(task: DistillTask) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.model.state_dict().items()}


def moved(task: DistillTask, before: dict[str, Tensor]) -> set[str]:
    after = task.model.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


class Steps:
    """The loop's own steps on chosen rows."""

    def __init__(self, task: DistillTask) -> None:
        self.task = task
        self.fabric = loop.make_fabric(task.config)
        run = loop.Progress.start(task.model, task.config, task.n_images)
        self.model, self.optimiser = self.fabric.setup(task.model, run.optimiser)

    def take(self, step: int, rows: range) -> None:
        batches = [self.task.batch(step, rows)]
        loop.train_step(
            self.fabric, self.task, self.model, self.optimiser, batches, self.task.config
        )


def test_a_step_on_one_modality_leaves_aggregator_and_other_bags(specific: DistillConfig) -> None:
    task = DistillTask(specific, report=silent)
    assert task.batch(0, range(4))[2].tolist() == [0, 0, 1, 1]
    steps = Steps(task)
    start = weights(task)
    steps.take(0, range(4))  # both modalities, so that the optimiser has momentum for both
    both = moved(task, start)
    assert any(name.startswith("bags.0.") for name in both)
    assert any(name.startswith("bags.1.") for name in both)
    before = weights(task)
    for step in (1, 2):
        steps.take(step, range(2))  # modality a alone
    alone = moved(task, before)
    assert alone
    assert all(name.startswith("bags.0.") for name in alone)
    assert not any(name.startswith("trunk.") for name in both | alone)  # statistics included
    frozen = [p for n, p in task.model.named_parameters() if n.startswith("trunk.")]
    assert all(p.grad is None for p in frozen)


def test_the_common_term_trains_the_aggregator_alone(common: DistillConfig, tmp_path: Path) -> None:
    task = DistillTask(common, report=silent)
    assert isinstance(task.model, TinyViT)
    before = weights(task)
    steps = Steps(task)
    for step in range(2):
        steps.take(step, range(4))
    still = set(before) - moved(task, before)
    assert still == set()

    distill(common, tmp_path / "run", report=silent)
    model = create_model("esp_medsam_test")
    assert isinstance(model, ESPMedSAM)
    old = {name: value.clone() for name, value in model.state_dict().items()}
    assert load_distilled(model, tmp_path / "run" / BEST) == "aggregator"
    new = model.state_dict()
    differing = {name for name in old if not torch.equal(old[name], new[name])}
    assert differing
    assert all(name.startswith("encoder.trunk.") for name in differing)


def test_the_error_falls_when_few_images_are_learnt_by_heart(
    common: DistillConfig, tmp_path: Path
) -> None:
    config = changed(
        common,
        steps=60,
        views=("identity",),
        natural={**common.natural.model_dump(), "limit": 2},  # type: ignore[union-attr]
        batch_size=1,
        validate_every=60,
        ema_decay=0,
    )
    task = DistillTask(config, report=silent)
    assert task.n_images == 1

    def error() -> float:
        with torch.no_grad():
            return float(task.loss(task.model.eval(), task.batch(0, range(1)))["total"])

    first = error()
    loop.fit(task, config, tmp_path, report=silent)
    assert error() < 0.1 * first


def test_both_terms_hand_on_to_a_model(
    common: DistillConfig, specific: DistillConfig, tmp_path: Path
) -> None:
    first = tmp_path / "common"
    distill(common, first, report=silent)
    second = tmp_path / "specific"
    lines: list[str] = []
    distill(changed(specific, distilled=first), second, report=lines.append)
    assert any("specific term" in line for line in lines)

    best, trunk = load_state(second, BEST), load_state(first, BEST)
    assert best is not None
    assert trunk is not None
    for name, value in trunk["model"].items():
        assert torch.equal(value, best["model"][f"trunk.{name}"]), name
    assert best["score"] == pytest.approx(-(best["mse_a"] + best["mse_b"]) / 2)

    model = create_model("esp_medsam_test", modalities=("new", "b"))
    assert isinstance(model, ESPMedSAM)
    untouched = {k: v.clone() for k, v in model.encoder.bags[0].state_dict().items()}
    assert load_distilled(model, second) == "aggregator, bags b"
    for name, value in model.encoder.bags[1].state_dict().items():
        assert torch.equal(value, best["model"][f"bags.1.{name}"]), name
    for name, value in model.encoder.bags[0].state_dict().items():
        assert torch.equal(value, untouched[name]), name
    fast = create_model("med_fastsam_test")
    assert load_distilled(fast, second) == "aggregator"


def test_targets_are_the_teachers_answers_on_the_students_grid(
    specific: DistillConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = DistillTask(specific, report=silent)
    images, targets, _ = task.batch(3, range(4))
    assert images.shape == (4, 3, 64, 64)
    teacher = create_teacher(specific.teacher)
    for row, (k, i, view) in enumerate(task._draw(3)):
        square = view_image(task.train[k][i], view, 64)
        torch.testing.assert_close(images[row], square, rtol=0, atol=0.51 / 255)
        expected = to_grid(teacher.embed(square[None]), 4)[0]
        torch.testing.assert_close(targets[row], expected, rtol=1e-2, atol=2e-3)
    views = {view for step in range(4) for _, _, view in task._draw(step)}
    assert views == {"identity", "flip"}
    part = task.batch(3, range(1, 4, 2))  # one process's rows of the same batch
    assert torch.equal(part[0], images[1::2])
    assert torch.equal(part[1], targets[1::2])

    def refuse(self: EncoderTeacher, images: Tensor) -> Tensor:
        raise AssertionError("the teacher was asked again")

    monkeypatch.setattr(EncoderTeacher, "embed", refuse)
    again = DistillTask(specific, report=silent)
    assert torch.equal(again.batch(3, range(4))[1], targets)
    assert again.validate(again.model)["score"] < 0


def test_flkd_trains_the_distilled_branch(common: DistillConfig, tmp_path: Path) -> None:
    config = changed(common, architecture="med_fastsam_test")
    task = DistillTask(config, report=silent)
    before = weights(task)
    steps = Steps(task)
    for step in range(2):
        steps.take(step, range(4))
    after = moved(task, before)
    assert {name for name in before if is_medical(name)} == set(before) - after
    assert any("med_qkv" in name for name in before)

    flkd(config, tmp_path / "run", report=silent)
    model = create_model("med_fastsam_test")
    assert isinstance(model, MedFastSAM)
    assert load_distilled(model, tmp_path / "run") == "aggregator"
    best = load_state(tmp_path / "run", BEST)
    assert best is not None
    for name, value in model.encoder.state_dict().items():
        if not is_medical(name):
            assert torch.equal(value, best["model"][name]), name
    with pytest.raises(InputError, match="flkd needs"):
        flkd(common, tmp_path / "other", report=silent)
    assert not (tmp_path / "other").exists()


def test_images_that_cannot_be_used_are_left_out_on_request(
    common: DistillConfig, natural: Path
) -> None:
    (natural / "deeper" / "3.png").write_bytes(b"no picture")
    lines: list[str] = []
    own = {"folders": [natural], "input": PLAIN, "validate_every": 4, "skip_damaged": True}
    task = DistillTask(changed(common, natural=own), report=lines.append)
    assert task.n_images == 6  # seven are left, one of them for validation
    assert any("left out" in line and "3.png" in line for line in lines)


def test_recipes_that_cannot_work_are_refused(
    common: DistillConfig, specific: DistillConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match="natural"):
        changed(common, natural=None)
    with pytest.raises(ValidationError, match="without `adapted`"):
        changed(common, teacher={**common.teacher.model_dump(), "adapted": "x"})
    with pytest.raises(ValidationError, match="modalities"):
        changed(specific, modalities={})
    with pytest.raises(InputError, match="no bags"):
        DistillTask(changed(specific, architecture="med_fastsam_test"), report=silent)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="found 0 usable images"):
        DistillTask(changed(common, natural={"folders": [empty]}), report=silent)
    (empty / "a.png").write_bytes(b"no picture")
    (empty / "b.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a\.png cannot be read"):
        DistillTask(changed(common, natural={"folders": [empty]}), report=silent)
    cv2.imwrite(str(empty / "c.png"), np.zeros((9, 40), np.uint8))
    (empty / "a.png").unlink()
    (empty / "b.png").unlink()
    cv2.imwrite(str(empty / "d.png"), np.zeros((40, 40), np.uint8))
    with pytest.raises(InputError, match=r"c\.png cannot be used: .*9 x 40"):
        DistillTask(changed(common, natural={"folders": [empty]}), report=silent)
    trunk = {**create_model("esp_medsam_test").config.trunk.model_dump(), "out_channels": 8}
    with pytest.raises(InputError, match="8 channels, that of the teacher"):
        DistillTask(changed(common, model={"trunk": trunk}), report=silent)
    with pytest.raises(InputError, match="holds no distillation"):
        load_distilled(create_model("esp_medsam_test"), tmp_path)
    distill(changed(common, steps=1), tmp_path / "run", report=silent)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_distilled(create_model("esp_medsam", modalities=("a",)), tmp_path / "run")


def test_the_teacher_sees_only_what_will_be_drawn(
    common: DistillConfig, natural: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    embed = EncoderTeacher.embed

    def count(self: EncoderTeacher, images: Tensor) -> Tensor:
        asked.append(len(images))
        return embed(self, images)

    monkeypatch.setattr(EncoderTeacher, "embed", count)
    task = DistillTask(
        changed(common, steps=1, batch_size=1, cache=tmp_path / "own"), report=silent
    )
    assert len(task.train[0]) > 1
    n_views = len(common.views)
    assert sum(asked) == n_views + len(task.val[0])
    task.batch(0, range(1))
    assert sum(asked) == n_views + len(task.val[0])
