# SPDX-License-Identifier: Apache-2.0
"""What exported bundles hold: exact files, callables with their arguments, expressions, pickle globals, operators.

Anything else is reported. The lists are exact on purpose: `torch.hub.load` and `monai.bundle.run` show that no package as a
whole can be listed, and `LoadImaged(reader="os.system")`, which imports what `reader` names, that no callable can be listed
without its arguments.
"""

from __future__ import annotations

import re

__all__ = [
    "CALLABLES", "EXPRESSIONS", "FILES", "IMPORTS", "PICKLE_GLOBALS", "PICKLE_OPCODES", "ROOTS", "SCHEMA", "SCRIPT_GLOBALS",
    "VALUES",
]  # fmt: skip

# Paths in an exported bundle. `configs/` may hold YAML as well: other people's bundles do.
FILES = re.compile(
    r"LICENSE|manifest\.json|configs/\w+\.(json|yaml|yml)|configs/logging\.conf|docs/(README\.md|data_license\.txt)"
    r"|models/model\.(pt|ts|onnx)|scripts/\w+\.py"
)

SCHEMA = re.compile(r"https://github\.com/Project-MONAI/MONAI-extra-test-data/releases/download/[\w.]+/meta_schema_\w+\.json")

CALLABLES: dict[str, str] = {  # _target_: the arguments that it may be given
    "ignite.handlers.ProgressBar": "desc",
    "ignite.metrics.Accuracy": "output_transform",
    "monai.data.CacheDataset": "data transform cache_num cache_rate num_workers",
    "monai.data.DataLoader": "dataset batch_size shuffle num_workers",
    "monai.data.Dataset": "data transform",
    "monai.data.NibabelReader": "squeeze_non_spatial_dims",
    "monai.engines.SupervisedEvaluator": "device val_data_loader network inferer postprocessing key_val_metric"
    " additional_metrics val_handlers amp decollate",
    "monai.engines.SupervisedTrainer": "device max_epochs train_data_loader network optimizer loss_function inferer"
    " postprocessing key_train_metric train_handlers amp decollate",
    "monai.handlers.CheckpointLoader": "load_path load_dict map_location",
    "monai.handlers.CheckpointSaver": "save_dir save_dict save_final final_filename save_key_metric key_metric_filename",
    "monai.handlers.ClassificationSaver": "output_dir filename overwrite batch_transform output_transform",
    "monai.handlers.MeanDice": "include_background output_transform",
    "monai.handlers.MetricsSaver": "save_dir metrics",
    "monai.handlers.StatsHandler": "iteration_log tag_name output_transform",
    "monai.handlers.ValidationHandler": "validator epoch_level interval",
    "monai.inferers.SimpleInferer": "",
    "monai.inferers.SliceInferer": "roi_size sw_batch_size spatial_dim",
    "monai.losses.DiceCELoss": "include_background to_onehot_y softmax lambda_ce lambda_dice",
    "monai.networks.nets.BasicUNet": "spatial_dims in_channels out_channels features act norm",
    "monai.transforms.Activationsd": "keys softmax",
    "monai.transforms.AsDiscreted": "keys argmax to_onehot",
    "monai.transforms.CenterScaleCropd": "keys roi_scale",
    "monai.transforms.Compose": "transforms",
    "monai.transforms.EnsureChannelFirstd": "keys",
    "monai.transforms.EnsureTyped": "keys track_meta",
    "monai.transforms.Invertd": "keys transform orig_keys nearest_interp to_tensor",
    "monai.transforms.Lambdad": "keys func",
    "monai.transforms.LoadImaged": "keys reader ensure_channel_first",
    "monai.transforms.Orientationd": "keys axcodes labels",
    "monai.transforms.RandAdjustContrastd": "keys prob gamma",
    "monai.transforms.RandCropByPosNegLabeld": "keys label_key spatial_size num_samples",
    "monai.transforms.RandFlipd": "keys prob spatial_axis",
    "monai.transforms.RandGaussianNoised": "keys prob std",
    "monai.transforms.RandGaussianSmoothd": "keys prob sigma_x sigma_y",
    "monai.transforms.RandRotate90d": "keys prob max_k",
    "monai.transforms.RandSpatialCropd": "keys roi_size random_size",
    "monai.transforms.RandZoomd": "keys prob min_zoom max_zoom mode padding_mode",
    "monai.transforms.Resized": "keys spatial_size mode",
    "monai.transforms.SaveImaged": "keys output_dir output_postfix output_dtype separate_folder",
    "monai.transforms.ScaleIntensityRanged": "keys a_min a_max b_min b_max clip",
    "monai.transforms.ScaleIntensityRangePercentilesd": "keys lower upper b_min b_max clip channel_wise",
    "monai.transforms.SqueezeDimd": "keys dim",
    "monai.transforms.ThresholdIntensityd": "keys threshold above cval",
    "monai.transforms.Transposed": "keys indices",
    "timm.create_model": "model_name in_chans num_classes drop_rate attn_drop_rate proj_drop_rate mlp_ratio img_size",
    "torch.nn.CrossEntropyLoss": "",
    "torch.optim.Adam": "params lr",
}

# A picture of another mode (a palette's, CMYK) is turned into colours, whose mean is then its grey.
PICTURE_READER = (
    "monai.data.PILReader(converter=lambda picture: picture if picture.mode in ('1', 'L', 'I', 'I;16', 'F', 'RGB', 'RGBA')"
    " else picture.convert('RGB')) if len(@spatial_size) == 2 else None"
)

# MONAI's writer fails on a volume stored as (X, Y, Z, 1) with its axes permuted unless it was read without the last axis.
VOLUME_READER = {"_target_": "monai.data.NibabelReader", "squeeze_non_spatial_dims": True}

# Arguments whose value decides what is run: timm looks up a name like hf-hub:... on the net, `pretrained` downloads, and a file
# called .env or sitecustomize.py is read by whoever starts in its folder.
VALUES: dict[str, re.Pattern[str]] = {
    "reader": re.compile("|".join(re.escape(repr(reader)) for reader in ("$" + PICTURE_READER, VOLUME_READER))),
    "model_name": re.compile(r"'[a-z0-9_.]+'"),
    "variant": re.compile(r"'[A-Za-z0-9_.]+'"),
    "pretrained": re.compile(r"False"),
    "_mode_": re.compile(r"'default'"),
    "save_dir": re.compile(r"'@(output_dir|ckpt_dir)'"),
    "filename": re.compile(r"'\w+\.csv'"),
    "final_filename": re.compile(r"'\w+\.pt'"),
    "key_metric_filename": re.compile(r"'\w+\.pt'"),
}

IMPORTS = frozenset({"import glob", "import torch", "import monai", "import numpy as np", "from pathlib import Path"})

# The ids to which an expression may add a path inside the bundle, and which must then be relative themselves.
ROOTS = ("bundle_root", "dataset_dir", "output_dir", "ckpt_dir")

EXPRESSIONS = (
    "torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
    "@network_def.to(@device)",
    "@network_def.to(device=@device, memory_format=torch.channels_last)",
    "@network.parameters()",
    "@evaluator.run()",
    "@train#trainer.run()",
    "@validate#evaluator.run()",
    "1 + @slice_axis",
    "[s for s in @spatial_size if s != -1]",
    "[1 if s == -1 else s for s in @spatial_size]",
    "[{'image': path} for path in sorted(glob.glob(@dataset_dir + '/*.nii.gz'))]",
    "sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz'))",
    "[{'image': image, 'label': image.replace('imagesTr', 'labelsTr')} for image in @images]",
    "@cases[:len(@cases) // 5]",
    "@cases[len(@cases) // 5:]",
    "@train#preprocessing.flatten()",
    "bool(@validate#dataset#data)",
    "[{'image': path} for path in sorted(glob.glob(@dataset_dir + '/*'))]",
    "[{'image': path, 'label': index} for index, name in enumerate(@classes)"
    " for path in sorted(glob.glob(@dataset_dir + '/imagesTr/' + name + '/*'))]",
    "[case for number, case in enumerate(@cases) if number % 5 != 4]",
    "@cases[4::5]",
    "1 + (@slice_axis or 0)",
    "'bilinear' if len(@spatial_size) == 2 else 'trilinear'",
    PICTURE_READER,
    "len(@spatial_size) == 3",
    "lambda image: (image.squeeze(3) if image.ndim > 3 else image)[:3].mean(0, keepdim=True)",
    "lambda inputs, network, axis=@slice_axis: torch.cat([network(part) for part in inputs.movedim(2 + axis, 1)"
    ".flatten(0, 1).split(16)]).log_softmax(1).unflatten(0, (len(inputs), -1)).logsumexp(1)",
    "monai.inferers.SimpleInferer() if @slice_axis is None else @slice_mean",
    "lambda batch: [{'filename_or_obj': '\"' + item['image'].meta['filename_or_obj'].replace('\"', '\"\"') + '\"'}"
    " for item in batch]",
    "monai.handlers.from_engine('pred')",
    "Path(@output_dir).mkdir(parents=True, exist_ok=True)",
    "(Path(@output_dir) / 'probabilities.csv').write_text(','.join(['image', *@classes]) + '\\n')",
    "monai.handlers.from_engine(['loss'], first=True)",
    "monai.handlers.from_engine(['pred', 'label'])",
    "monai.utils.set_determinism(seed=0)",
)

STORAGES = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")

# A plain state dict needs these of torch's weights_only globals; as pickletools prints them, "module name".
PICKLE_GLOBALS = frozenset(
    {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"}
    | {f"torch {kind}Storage" for kind in STORAGES}
)

# TorchScript's records are read by a reader of its own, which knows these beside the classes of the archive's own code.
SCRIPT_GLOBALS = PICKLE_GLOBALS | {
    f"torch.jit._pickle {name}"
    for name in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
}

# The opcodes that torch.load(weights_only=True) reads; nothing that it refuses belongs into a file of weights.
OPCODES = """
PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINSTRING EMPTY_TUPLE TUPLE
TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS EMPTY_SET GLOBAL REDUCE NEWOBJ BUILD BINPERSID
BINGET LONG_BINGET BINPUT LONG_BINPUT
"""
PICKLE_OPCODES = frozenset(OPCODES.split())
