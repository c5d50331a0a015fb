"""F_ViT-Med: a frozen encoder with medical parts, SPPG and QDMD; and the choice of a teacher.

ESP-MedSAM section 3.2.1: key/value tokens in every attention and an MLP beside every FFN are
trained on the source domains by eq. 1 and eq. 6, while the encoder stays as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, cast

import safetensors
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from napari_espmedsam.errors import CheckpointError
from napari_espmedsam.model.checkpoint import first_ten
from napari_espmedsam.model.config import ESPMedSAMConfig, TinyViTConfig
from napari_espmedsam.model.output import ModelOutput
from napari_espmedsam.model.qdmd import QueryDecoupledDecoder
from napari_espmedsam.model.sppg import DensePromptEncoder, PatchGenerator, binarise
from training.run import whole_file
from training.teacher_encoder import (
    EncoderTeacher,
    MedicalConfig,
    TeacherSpec,
    digest,
    read_encoder,
)
from training.warm_start import warm_start_decoder

_HEADER_KEY = "napari-espmedsam-teacher"

__all__ = [
    "EncoderTeacher",
    "MedTeacher",
    "MedicalConfig",
    "Teacher",
    "TeacherSpec",
    "create_med_teacher",
    "create_teacher",
]


class Teacher(Protocol):
    """What a distillation asks of a teacher."""

    name: str
    #: Side of the square it wants, in pixels.
    size: int

    @property
    def fingerprint(self) -> str:
        """sha256 over the weights and settings that shape an embedding."""
        ...

    def embed(self, images: Tensor) -> Tensor:
        """Embed (B, 3, size, size) in [0, 1]: float32 (B, C, g, g), without gradient."""
        ...


class MedTeacher(EncoderTeacher):
    """F_ViT-Med with SPPG and QDMD: trains by eq. 1 and eq. 6 like an ESP-MedSAM.

    Only the new parts have ``requires_grad``.

    Parameters
    ----------
    encoder : nn.Module
        ``SamEncoder`` or :class:`LiteMedSAMEncoder` with its medical parts.
    spec : TeacherSpec
        Where it comes from.
    modalities : tuple of str
        One query and mask MLP each; the encoder's new parts serve them all.
    """

    def __init__(self, encoder: Any, spec: TeacherSpec, modalities: tuple[str, ...]) -> None:
        super().__init__(encoder, spec)
        self.name = f"{spec.kind} with medical parts {spec.side} px"
        self.modalities = modalities
        medical, channels = spec.medical, encoder.channels
        self.patch_generator = PatchGenerator(
            channels, medical.prompt_hidden, medical.prompt_levels
        )
        self.dense_prompt = DensePromptEncoder(channels, medical.prompt_levels)
        self.decoder = QueryDecoupledDecoder(
            ESPMedSAMConfig(
                modalities=modalities,
                trunk=TinyViTConfig(out_channels=channels),
                decoder=medical.decoder,
            )
        )
        frozen = {n for n, p in self.named_parameters() if not p.requires_grad}
        frozen |= {f"encoder.{name}" for name, _ in encoder.named_buffers()}
        self._trained = [name for name in self.state_dict() if name not in frozen]

    @property
    def prompt_cell(self) -> int:
        """Side of one prompt cell in input pixels."""
        return int(self.encoder.stride * 2**self.spec.medical.prompt_levels)

    def forward(self, images: Tensor, modality: Tensor) -> ModelOutput:
        """Segment images.

        Parameters
        ----------
        images : Tensor
            (B, 3, H, W) float, normalised as ``spec.normalisation`` says; H and W multiples of 32.
        modality : Tensor
            (B,) int64 index into ``modalities``.

        Returns
        -------
        ModelOutput
            With n = ``stride`` (16 for SAM, 4 for LiteMedSAM): mask logits at 4/n of the input's
            size, prompt logits with one cell per ``prompt_cell`` pixels, embedding at 1/n.
        """
        embedding = self.encoder(images)
        prompt_logits = self.patch_generator(embedding)
        height, width = embedding.shape[-2:]
        dense = self.dense_prompt(binarise(prompt_logits), (height, width))
        mask_logits = self.decoder(embedding, dense, modality)
        return ModelOutput(mask_logits, prompt_logits, embedding)

    def trained_state(self) -> dict[str, Tensor]:
        """Everything but the frozen encoder."""
        state = self.state_dict()
        return {name: state[name] for name in self._trained}

    def trunk_digest(self) -> str:
        """sha256 over the frozen encoder, beside which alone the trained parts make sense."""
        frozen = set(self.state_dict()) - set(self._trained)
        return digest(((n, t) for n, t in self.state_dict().items() if n in frozen), {})

    def save_adapted(self, path: Path) -> Path:
        """Write the trained parts alone, complete or not at all."""
        header = {
            "kind": self.spec.kind,
            "medical": self.spec.medical.model_dump(mode="json"),
            "modalities": self.modalities,
            "trunk": self.trunk_digest(),
        }
        state = {n: t.detach().cpu().contiguous() for n, t in self.trained_state().items()}
        with whole_file(path) as temporary:
            save_file(state, temporary, {_HEADER_KEY: json.dumps(header)})
        return path


def create_med_teacher(spec: TeacherSpec, modalities: tuple[str, ...]) -> MedTeacher:
    """F_ViT-Med before its training.

    The decoder starts from the mask decoder in the teacher's file, where there is one.
    """
    encoder, state = read_encoder(spec, medical=True)
    teacher = MedTeacher(encoder, spec, modalities)
    if "mask_decoder.mask_tokens.weight" in state:
        warm_start_decoder(teacher.decoder, state)
    return teacher


def create_teacher(spec: TeacherSpec) -> EncoderTeacher:
    """Teacher that is ready to embed images, in eval mode and on the CPU.

    Parameters
    ----------
    spec : TeacherSpec
        With ``adapted`` it is F_ViT-Med, without it the frozen encoder alone.

    Raises
    ------
    CheckpointError
        If a file is missing, damaged, or its trained parts belong to another encoder.
    """
    if spec.adapted is None:
        return EncoderTeacher(read_encoder(spec, medical=False)[0], spec).requires_grad_(False)
    return _load_med_teacher(spec, spec.adapted)


def _load_med_teacher(spec: TeacherSpec, path: Path) -> MedTeacher:
    """F_ViT-Med with the trained parts of ``path``."""
    header = _read_header(path)
    if header.get("kind") != spec.kind:
        raise CheckpointError(
            f"{path.name} was trained beside {header.get('kind')}, not {spec.kind}. Change "
            "the teacher's kind or `adapted`."
        )
    try:
        medical = MedicalConfig.model_validate(header["medical"])
        modalities = tuple(str(name) for name in header["modalities"])
    except (KeyError, TypeError, ValidationError) as error:
        raise CheckpointError(f"The header of {path.name} is damaged: {error}") from error
    spec = spec.model_copy(update={"medical": medical})
    teacher = MedTeacher(read_encoder(spec, medical=True)[0], spec, modalities)
    if header.get("trunk") != teacher.trunk_digest():
        raise CheckpointError(
            f"{path.name} was trained beside other weights of {spec.kind} than those "
            "given. Set `weights` to the file that it was trained with."
        )
    state = load_file(path)
    wrong = list(set(state) ^ set(teacher.trained_state()))
    if wrong:
        raise CheckpointError(
            f"{path.name} does not fit the teacher: {first_ten(wrong)}. Train it again."
        )
    teacher.load_state_dict(state, strict=False)
    return teacher.requires_grad_(False)


def _read_header(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}. Train a teacher first, or check the path.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER_KEY])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path.name} holds no trained parts of a teacher, or is damaged. Write it with "
            "'python -m training teacher'."
        ) from error
    return cast("dict[str, Any]", header)
