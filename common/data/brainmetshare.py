# SPDX-License-Identifier: Apache-2.0
"""BrainMetShare: brain metastases in multi-sequence MR (105 cases with masks); FLAIR by default.

Two releases exist: NIfTI files (version 3, `train/Mets_XXX/t1_gd.nii.gz`), which `cases` reads, and the earlier one of
PNG slices (`mets_stanford_releaseMask_train/Mets_XXX/{0,1,2,3,seg}/N.png`), which `convert` turns into the first:

    python -m common.data.brainmetshare PNG_FOLDER NEW_FOLDER
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from .facts import Facts, Item
from .layout import NIFTI, check_root, pair

# The folder a sequence has in the PNG release. 2: spin echo after gadolinium; bravo: gradient echo after gadolinium.
SEQUENCES = {"bravo": "0", "t1_pre": "1", "t1_gd": "2", "flair": "3"}
PNG_SPACING = (0.94, 0.94, 1.0)  # mm, as published; the PNG files do not hold it
_FIX = "Register at https://aimi.stanford.edu/brainmetshare and unpack the release there."


def cases(root: str | Path, *, sequence: str = "flair") -> list[Item]:
    """List one `sequence` of every case of `train/`; the cases of `test/` have no masks and are left out.

    `flair` is what paper 000 used; metastases were annotated on `t1_gd`, where they show best.
    """
    if sequence not in SEQUENCES:
        raise ValueError(f"brainmetshare: unknown sequence {sequence!r}; choose one of {', '.join(SEQUENCES)}")
    check_root(root, dataset="brainmetshare", fix=_FIX)
    if _png_cases(Path(root)):
        raise ValueError(
            f"brainmetshare: {root} holds the release of PNG slices. Turn it into NIfTI files once, then give the new "
            f"folder: python -m common.data.brainmetshare {root} NEW_FOLDER"
        )
    others = "|".join(name for name in SEQUENCES if name != sequence)
    return pair(
        root,
        dataset="brainmetshare",
        image=rf"(?P<case>Mets_\d+)/{sequence}" + NIFTI,
        label=r"(?P<case>Mets_\d+)/seg" + NIFTI,
        ignore=rf"Mets_\d+/(?:{others})" + NIFTI,
        unlabelled=rf"test/Mets_\d+/{sequence}" + NIFTI,
        layout=f"train/Mets_XXX/{sequence}.nii.gz and train/Mets_XXX/seg.nii.gz",
        fix=_FIX,
    )


def convert(root: str | Path, out: str | Path) -> None:
    """Stack the PNG slices below `root` into `out`/train/Mets_XXX/{bravo,t1_pre,t1_gd,flair,seg}.nii.gz.

    Slices are ordered by the number in their names; columns run to the patient's left, rows to the back, slices up.
    Masks of 0 and 255 become 0 and 1. A case that exists already is kept; a case without masks goes to `out`/test.
    Raises FileNotFoundError where `root` holds no such slices or a sequence lacks slices.
    """
    folders = _png_cases(check_root(root, dataset="brainmetshare", fix=_FIX))
    if not folders:
        raise FileNotFoundError(f"brainmetshare: {root} holds no Mets_XXX/0/N.png slices to convert. {_FIX}")
    for folder in folders:
        part = "train" if (folder / "seg").is_dir() else "test"
        target = Path(out, part, folder.name)
        target.mkdir(parents=True, exist_ok=True)
        names = [path.name for path in sorted((folder / "0").glob("*.png"), key=lambda path: int(path.stem))]
        for sequence, number in SEQUENCES.items():
            _stack(folder / number, names, target / f"{sequence}.nii.gz", mask=False)
        if part == "train":
            _stack(folder / "seg", names, target / "seg.nii.gz", mask=True)


def _png_cases(root: Path) -> list[Path]:
    """The case folders of the PNG release, at `root` or up to two folders below."""
    found = {path.parent for depth in ("", "*/", "*/*/") for path in root.glob(depth + "Mets_*/0") if path.is_dir()}
    return sorted(found)


def _stack(folder: Path, names: list[str], target: Path, *, mask: bool) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"brainmetshare: {folder / missing[0]} is missing; unpack the release again")
    if target.exists():
        return
    slices = [np.asarray(Image.open(folder / name).convert("L")) for name in names]
    volume = np.stack(slices, axis=-1).transpose(1, 0, 2)
    volume = (volume > 127).astype(np.uint8) if mask else volume.astype(np.int16)
    affine = np.diag([-PNG_SPACING[0], -PNG_SPACING[1], PNG_SPACING[2], 1.0])
    part = target.with_name("." + target.name)  # hidden until whole, so that a broken conversion is never read
    nibabel.save(nibabel.Nifti1Image(volume, affine), part)
    part.replace(target)


FACTS = Facts(
    name="brainmetshare",
    reader=cases,
    classes={"lesion": (1,)},
    label_values=(0, 1),
    window=None,
    percentiles=(0.5, 99.5),
    orientation="RAS",
)

if __name__ == "__main__":
    from ..command_line import command

    command(convert)
