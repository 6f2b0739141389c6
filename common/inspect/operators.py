# SPDX-License-Identifier: Apache-2.0
"""The operators that exported TorchScript may name: on tensors, numbers, lists and text; none reads, writes or loads."""

from __future__ import annotations

__all__ = ["METHODS", "NAMES", "OPERATORS"]

# What TorchScript's source calls without a dot.
CALLED = """
annotate uninitialized unchecked_cast getattr isinstance bool int float str range len list tuple
"""
NAMES = frozenset(CALLED.split())

# Methods of the networks' classes (ours, MONAI's, torch's, timm's); as a method of a tensor each is no operator, or harmless.
OWN = """
__init__ _apply_instance_norm _check_input_dim _conv_forward _ff_block _get_no_batch_dim _handle_no_batch_input
_output_padding _pos_embed _sa_block decode decode_head encode forward forward_features forward_head merge_masks pool split
"""
METHODS = frozenset(OWN.split())

TENSORS = """
abs adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d add add_ addmm all
amax amin any arange argmax avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bernoulli_ bmm cat ceil chunk clamp
clamp_min clone contiguous conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d detach div div_ dropout
dropout_ einsum elu eq exp expand expand_as feature_dropout flatten flip floor floor_divide full gather ge gelu glu
group_norm gt hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ index index_select instance_norm layer_norm
le leaky_relu leaky_relu_ linear linspace log log2 log_softmax logsumexp lt masked_fill masked_fill_ matmul max max_pool1d
max_pool2d max_pool3d maximum mean min minimum mm movedim mul mul_ narrow ne neg new_empty norm ones ones_like pad permute
pixel_shuffle pow prelu rand randperm reciprocal relu relu_ relu6 remainder repeat repeat_interleave reshape roll round
rsqrt scaled_dot_product_attention select selu sigmoid sigmoid_ silu silu_ sin cos slice softmax softplus split
split_with_sizes sqrt square squeeze stack std std_mean sub sub_ sum t tanh tensor to transpose type_as unbind unflatten
unfold unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d
upsample_nearest3d upsample_trilinear3d var var_mean view where zeros zeros_like _native_multi_head_attention
_transformer_encoder_layer_fwd _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_lanczos2d_aa
_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
"""

# Numbers, lists, text and the state of the interpreter; `warn` writes to the terminal.
VALUES = """
Bool Float Int __and__ __contains__ __derive_index __getitem__ __is__ __isnot__ __not__ __or__ __range_length _set_item
append bool copy dim extend float floordiv format index_put_ insert int is_autocast_enabled is_floating_point
is_grad_enabled item join keys len list lower numel pop set_grad_enabled size startswith endswith str stride upper values
warn
"""

PRIM = """
RaiseException data device dtype is_cuda is_nested layout max min requires_grad shape tolist type unchecked_cast
"""

OPERATORS = frozenset(
    {f"torch.{name}" for name in (TENSORS + VALUES).split()} | {f"ops.prim.{name}" for name in PRIM.split()} | {"torch.Tensor"}
)
