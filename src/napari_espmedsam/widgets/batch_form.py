"""The form of the tab "Batch": which images, which results, and where they go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_espmedsam.batch.cluster import execute_on, is_installed
from napari_espmedsam.batch.job import DEFAULT_FORMATS, BatchJob
from napari_espmedsam.batch.local import run_here
from napari_espmedsam.batch.run import Execute
from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.request import SegmentRequest, request_options
from napari_espmedsam.io.formats import FORMATS
from napari_espmedsam.io.images import IMAGE_SUFFIXES
from napari_espmedsam.widgets.batch_settings import MAX_WORKERS, BatchSettings
from napari_espmedsam.widgets.fields import ignore_wheel, tooltip
from napari_espmedsam.widgets.path_list import PathList
from napari_espmedsam.widgets.rows import form_layout, tight

_PATTERNS = " ".join(f"*{suffix}" for suffix in IMAGE_SUFFIXES)
_AUTO = -1  # value of the channel box: as each image has it
_MORE = "More settings"
_LEAST_WIDTH = 250  # px: the whole dock then fits into 320


class BatchForm(QWidget):
    """Editors of one job; model and settings are those of the tab "Segment".

    Attributes
    ----------
    changed : Signal
        Something was changed.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        options = {info.name: info for info in request_options()}
        self.inputs = PathList()
        self.folder_button, self.files_button = QPushButton("Folder…"), QPushButton("Files…")
        self.results, self.results_button = QLineEdit(), QPushButton("Choose…")
        self.recursive = QCheckBox("Folders inside folders too")
        self.dicom_series = QCheckBox("DICOM folders as stacks")
        self.formats = {name: QCheckBox(each.title) for name, each in FORMATS.items()}
        self.overwrite = QCheckBox("Compute and replace everything")
        self.pattern = QLineEdit()
        self.axes = QLineEdit()
        self.channel = QSpinBox()
        self.channel.setRange(_AUTO, int(options["channel"].maximum or 0))
        self.channel.setSpecialValueText("auto")
        self.channel.setValue(_AUTO)
        self.channel.setToolTip(tooltip(options["channel"]))
        self.axes.setToolTip(tooltip(options["axes"]))
        self.workers, self.scheduler = QSpinBox(), QLineEdit()
        self.workers.setRange(0, MAX_WORKERS)
        self.workers.setSpecialValueText("none")
        self.has_cluster = is_installed()
        self.defaults_button = QPushButton("Restore defaults")
        self._explain()
        self._lay_out()
        self._watch()
        self.folder_button.clicked.connect(self._ask_folder)
        self.files_button.clicked.connect(self._ask_files)
        self.results_button.clicked.connect(self._ask_results)

    @property
    def settings(self) -> BatchSettings:
        """What is remembered."""
        return BatchSettings(
            inputs=self.inputs.paths,
            results=self.results.text().strip(),
            formats=self._formats(),
            recursive=self.recursive.isChecked(),
            dicom_series=self.dicom_series.isChecked(),
            pattern=self.pattern.text().strip(),
            workers=self.workers.value(),
            scheduler=self.scheduler.text().strip(),
        )

    def take(self, settings: BatchSettings) -> None:
        """Set what is remembered."""
        self.inputs.setPlainText("\n".join(settings.inputs))
        self.results.setText(settings.results)
        for name, box in self.formats.items():
            box.setChecked(name in settings.formats)
        self.recursive.setChecked(settings.recursive)
        self.dicom_series.setChecked(settings.dicom_series)
        self.pattern.setText(settings.pattern)
        if self.has_cluster:  # else they are not shown, and must not do anything
            self.workers.setValue(settings.workers)
            self.scheduler.setText(settings.scheduler)

    def reset(self) -> None:
        """Set everything but the images and the folder of the results to its default."""
        self.take(BatchSettings(inputs=self.inputs.paths, results=self.results.text()))
        self.channel.setValue(_AUTO)
        self.axes.clear()
        self.overwrite.setChecked(False)

    def job(self, request: SegmentRequest) -> BatchJob:
        """Return the job; its images are not looked for.

        Parameters
        ----------
        request : SegmentRequest
            Model and settings that belong to no one image.

        Raises
        ------
        InputError
            If something is not filled in.
        """
        folder = self.results.text().strip()
        if not self.inputs.paths:
            raise InputError("There is no input. Choose a folder or files, or type a pattern.")
        if not folder:
            raise InputError("There is no folder for the results. Choose one.")
        return BatchJob(
            inputs=self.inputs.paths,
            folder=Path(folder).expanduser(),
            request=replace(
                request,
                channel=None if self.channel.value() == _AUTO else self.channel.value(),
                axes=self.axes.text().strip().upper() or None,
            ),
            formats=self._formats(),
            recursive=self.recursive.isChecked(),
            dicom_series=self.dicom_series.isChecked(),
            pattern=self.pattern.text().strip() or None,
            overwrite=self.overwrite.isChecked(),
        )

    def execute(self) -> Execute:
        """Return what does the tasks of a job: this process, or the workers that are asked for."""
        scheduler, workers = self.scheduler.text().strip() or None, self.workers.value()
        return run_here if not workers and scheduler is None else execute_on(scheduler, workers)

    def _formats(self) -> tuple[str, ...]:
        return tuple(name for name, box in self.formats.items() if box.isChecked())

    def _watch(self) -> None:
        for edited in (self.inputs, self.results, self.pattern, self.axes, self.scheduler):
            edited.textChanged.connect(self._on_changed)
        for box in (self.recursive, self.dicom_series, self.overwrite, *self.formats.values()):
            box.toggled.connect(self._on_changed)
        for number in (self.channel, self.workers):
            number.valueChanged.connect(self._on_changed)
        self.defaults_button.clicked.connect(self.reset)

    def _on_changed(self, *_ignored: object) -> None:
        hidden = (
            self.recursive.isChecked(),
            self.dicom_series.isChecked(),
            bool(self.pattern.text().strip()),
            self.channel.value() != _AUTO,
            bool(self.axes.text().strip()),
            self.overwrite.isChecked(),
            self.workers.value() > 0,
            bool(self.scheduler.text().strip()),
        )
        count = sum(hidden)  # nobody sees them while the part is folded
        self._more.setText(f"{_MORE} ({count} changed)" if count else _MORE)
        self.changed.emit()

    def _ask_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Choose a folder of images")
        if path:
            self.inputs.add(path)

    def _ask_files(self) -> None:
        paths, _filter = QFileDialog.getOpenFileNames(
            self, "Choose images", "", f"Images ({_PATTERNS});;All files (*)"
        )
        self.inputs.add(*paths)

    def _ask_results(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Choose a folder for the results")
        if path:
            self.results.setText(path)

    def _explain(self) -> None:
        self.folder_button.setToolTip("Add a folder: all images in it.")
        self.files_button.setToolTip("Add image files.")
        self.results.setToolTip(
            "Folder of the results; it is made if need be. Images are never changed."
        )
        self.results.setPlaceholderText("folder")
        self.results_button.setToolTip("Choose the folder of the results.")
        self.recursive.setToolTip("A folder stands for the folders inside it too.")
        self.dicom_series.setToolTip(
            "A folder with DICOM files is one image: the stack of their slices. Left alone, each "
            "file is an image."
        )
        for name, box in self.formats.items():
            box.setChecked(name in DEFAULT_FORMATS)
            box.setToolTip(f"Write each image's labels as {FORMATS[name].file_name('NAME')}.")
        self.overwrite.setToolTip(
            "Compute all images again and replace their results, corrected ones too. Otherwise "
            "what is finished is kept: the same image, weights and settings."
        )
        self.pattern.setPlaceholderText("*_dapi.tif")
        self.pattern.setToolTip(
            "Which files of a folder to take, by name, or with a / by path below it. "
            "Left alone: all images."
        )
        self.axes.setPlaceholderText("as each file says")
        self.defaults_button.setToolTip(
            "Set everything in this tab but images and results to its default."
        )
        self.workers.setToolTip(
            "Processes of this machine that do the work side by side; each loads the model. None: "
            "the window's own process does it, one image after the other."
        )
        self.scheduler.setPlaceholderText("tcp://host:8786")
        self.scheduler.setToolTip(
            "Address of a Dask cluster that does the work. All its machines have to see images and "
            "results under the same path."
        )
        texts = (self.results, self.pattern, self.axes, self.scheduler)
        for editor in (*texts, self.channel, self.workers):
            editor.setMinimumWidth(80)
            editor.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        for number in (self.channel, self.workers):
            ignore_wheel(number)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        rows = form_layout(layout)
        rows.addRow(QLabel("Images"), self.inputs)
        rows.addRow(QLabel(), _row(self.folder_button, self.files_button))
        rows.addRow(QLabel("Results"), _row(self.results, self.results_button))
        boxes = QGridLayout()
        for number, box in enumerate(self.formats.values()):
            boxes.addWidget(box, number // 2, number % 2)
        layout.addLayout(boxes)
        folded = QWidget()
        more = form_layout(folded)
        more.setContentsMargins(0, 0, 0, 0)
        more.addRow(self.recursive)
        more.addRow(self.dicom_series)
        more.addRow(QLabel("Only files"), self.pattern)
        more.addRow(QLabel("Channel"), self.channel)
        more.addRow(QLabel("Axes"), self.axes)
        more.addRow(self.overwrite)
        if self.has_cluster:
            more.addRow(QLabel("Workers"), self.workers)
            more.addRow(QLabel("Scheduler"), self.scheduler)
        self._more = part = QCollapsible(_MORE, self, expandedIcon="▾", collapsedIcon="▸")
        part.setToolTip("Folders inside folders, patterns, channel, axes, replacing, workers.")
        part.addWidget(folded)
        part.setMinimumWidth(_LEAST_WIDTH)  # it asks for the width of its longest caption otherwise
        layout.addWidget(tight(part))
        layout.addWidget(self.defaults_button)


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for widget in widgets:
        widget.setMinimumWidth(40)
        row.addWidget(widget)
    return row
