"""The file in which settings outlive a session of napari. No Qt.

Only what differs from the defaults is written, so that a better default of a later version reaches
everybody who never chose otherwise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from napari_espmedsam.errors import EspMedSamError, InputError
from napari_espmedsam.inference.options import OptionInfo, check_value
from napari_espmedsam.inference.request import request_options
from napari_espmedsam.io.atomic import atomic_path
from napari_espmedsam.widgets.batch_settings import BatchSettings

VARIABLE = "NAPARI_ESPMEDSAM_SETTINGS"
"""Environment variable that names another file; empty, nothing is remembered."""

OF_ONE_IMAGE = ("planes", "channel", "axes", "rgb")
"""Settings that would be wrong for the next image, and are never remembered."""

_VERSION = 1
_MAX_BYTES = 100_000


def settings_path() -> Path | None:
    """Return where settings are remembered; None where the user wants none remembered."""
    chosen = os.environ.get(VARIABLE)
    if chosen is None:
        return Path(platformdirs.user_config_dir("napari-espmedsam", False)) / "settings.json"
    return Path(chosen).expanduser() if chosen else None


def remembered_options() -> tuple[OptionInfo, ...]:
    """Describe the settings that are remembered."""
    return tuple(info for info in request_options() if info.name not in OF_ONE_IMAGE)


def load_settings(path: Path) -> dict[str, Any]:
    """Read the settings of a segmentation.

    Parameters
    ----------
    path : Path
        The file; nothing is remembered yet where there is none.

    Returns
    -------
    dict
        Values by the names of :func:`remembered_options`. Unknown names, and values that are not
        allowed any more, are left out.

    Raises
    ------
    InputError
        If the file cannot be read or is damaged.
    """
    values = _read(path).get("settings", {})
    if not isinstance(values, dict):
        raise _damaged(path, "it holds no settings")
    return {info.name: values[info.name] for info in remembered_options() if _fits(info, values)}


def load_batch(path: Path) -> BatchSettings:
    """Read the fields of the tab "Batch".

    Raises
    ------
    InputError
        As :func:`load_settings`.
    """
    return BatchSettings.from_json(_read(path).get("batch"))


def save_settings(
    path: Path, settings: Mapping[str, Any], batch: BatchSettings | None = None
) -> None:
    """Write what differs from the defaults, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    content: dict[str, Any] = {"version": _VERSION, "settings": changed_settings(settings)}
    if batch is not None and batch.changed():
        content["batch"] = batch.changed()
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        if not path.exists():
            return {}
        with path.open(encoding="utf-8") as file:
            content = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        raise _damaged(path, f"it is not of version {_VERSION}")
    if "settings" not in content:
        raise _damaged(path, "it holds no settings")
    return content


def changed_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings that are remembered and differ from their defaults."""
    return {
        info.name: settings[info.name]
        for info in remembered_options()
        if info.name in settings and settings[info.name] != info.default
    }


def _fits(info: OptionInfo, values: Mapping[str, Any]) -> bool:
    if info.name not in values:
        return False
    try:
        check_value(info, values[info.name])
    except EspMedSamError:
        return False
    return True


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"The remembered settings in {path} cannot be used: {reason}. The defaults hold; the next "
        "change of a setting writes the file anew."
    )
