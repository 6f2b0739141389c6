# SPDX-License-Identifier: Apache-2.0
"""Reads MATLAB v7.3 files (HDF5) that hold one image, as the Figshare brain tumour dataset does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from monai.data import ImageReader
from monai.data.utils import is_supported_format
from monai.utils import MetaKeys
from numpy.typing import NDArray


def read_field(path: str | Path, name: str) -> NDArray[Any]:
    """The array `name` ("group/field") of a file, as HDF5 stores it: the reverse of MATLAB's axes.

    Raises ValueError for a file that is no MATLAB v7.3 file or lacks the field.
    """
    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get(name), h5py.Dataset):
                raise ValueError(f"{path} holds no field {name}; it has {', '.join(file) or 'none'}: download it again.")
            return np.asarray(file[name])
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} is not a MATLAB v7.3 file ({error}); download it again.") from error


class MatReader(ImageReader):
    """MONAI reader of `.mat` files with an image at `field`: `LoadImage(reader=MatReader)`, or registered beside others.

    HDF5 turns MATLAB's rows and columns into (X, Y), the axes in which MONAI holds a picture. Shape (X, Y).
    """

    def __init__(self, field: str = "cjdata/image") -> None:
        super().__init__()
        self.field = field

    def verify_suffix(self, filename: Sequence[Any] | Any) -> bool:
        return is_supported_format(filename, ["mat"])

    def read(self, data: Sequence[Any] | Any, **kwargs: Any) -> NDArray[Any]:
        (path,) = data if isinstance(data, Sequence) and not isinstance(data, str) else (data,)
        return read_field(path, self.field)

    def get_data(self, img: NDArray[Any]) -> tuple[NDArray[Any], dict[Any, Any]]:
        return img, {MetaKeys.SPATIAL_SHAPE: np.asarray(img.shape), MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan")}
