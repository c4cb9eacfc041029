"""Resizing, sampling, and what finds things in images."""

import numpy as np

from .neural import window
from .registry import operator
from .schema import F32, I64


@operator("Upsample")
def upsample(c):
    x = c.random.array([c.random.int(1, 2), c.random.int(1, 2), *[c.random.int(1, 5) for _ in range(2)]], c.dtype("T"),
                       "plain")
    scales = [1.0, 1.0, *[c.random.pick([1.0, 2.0, 3.0, 1.5, 2.25]) for _ in range(2)]]
    attributes = {"mode": c.random.pick(["nearest", "linear"])} if c.random.chance(0.8) else {}
    if c.has("scales"):
        return c.case([x], {"scales": scales, **attributes}, kind="sum")
    return c.case([x, np.asarray(scales, F32)], attributes, constants={1}, kind="sum")


@operator("Resize")
def resize(c):
    mode = c.random.pick(["nearest", "nearest", "linear", "cubic"] if c.opset >= 11 else ["nearest", "linear"])
    rank = c.random.pick([2, 3, 4, 4]) if mode != "cubic" else c.random.pick([2, 4])
    lead = rank - 2 if rank == 4 else max(0, rank - 2)
    dims = [c.random.int(1, 2)] * lead + [c.random.int(1, 6) for _ in range(rank - lead)]
    x = c.random.array(dims, c.dtype(c.schema.inputs[0].type_str), "plain")
    by_sizes = c.opset >= 11 and c.random.chance(0.5)
    factors = [0.5, 1.0, 2.0, 1.5, 0.75, 3.0, 2.5, 0.4, 1.3]
    scales = [1.0] * lead + [c.random.pick(factors) for _ in range(rank - lead)]
    scales = [s if int(d * s) >= 1 else 1.0 for d, s in zip(dims, scales)]
    sizes = dims[:lead] + [c.random.int(1, 9) for _ in range(rank - lead)]
    attributes = {} if mode == "nearest" and c.random.chance(0.5) else {"mode": mode}
    if c.opset == 10:
        return c.case([x, np.asarray(scales, F32)], attributes, constants={1}, kind="sum")
    if c.random.chance(0.8):
        options = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize"]
        options += ["half_pixel_symmetric"] if c.opset >= 19 else []
        options += ["tf_half_pixel_for_nn"] if c.opset < 13 else []
        attributes["coordinate_transformation_mode"] = c.random.pick(options)
    if mode == "nearest" and c.random.chance(0.7):
        attributes["nearest_mode"] = c.random.pick(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if mode == "cubic":
        if c.random.chance(0.4):
            attributes["cubic_coeff_a"] = c.random.pick([-0.5, -0.75])
        if c.random.chance(0.4):
            attributes["exclude_outside"] = c.random.int(0, 1)
    roi = None
    if attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        low = [0.0] * lead + [c.random.float(0.0, 0.4) for _ in range(rank - lead)]
        high = [1.0] * lead + [c.random.float(0.6, 1.2) for _ in range(rank - lead)]
        roi = np.asarray(low + high, F32)
        if c.random.chance(0.5):
            attributes["extrapolation_value"] = c.random.float()
    given = list(range(rank))
    if c.has("axes") and c.random.chance(0.3) and roi is None:
        given = sorted(c.random.some(range(lead, rank), 1))
        attributes["axes"] = [axis - rank if c.random.chance(0.3) else axis for axis in given]
    if c.has("antialias") and mode != "nearest" and c.random.chance(0.25):
        attributes["antialias"] = c.random.int(0, 1)
    if by_sizes and c.has("keep_aspect_ratio_policy") and c.random.chance(0.25):
        if "axes" not in attributes:
            given = list(range(lead, rank))
            attributes["axes"] = given
        attributes["keep_aspect_ratio_policy"] = c.random.pick(["stretch", "not_larger", "not_smaller"])
    if c.opset < 13:
        roi = np.zeros(0, F32) if roi is None else roi
        first = np.asarray(scales, F32) if not by_sizes else np.zeros(0, F32)
        inputs = [x, roi, first]
        if by_sizes:
            inputs.append(np.asarray(sizes, I64))
    else:
        inputs = [x, roi, None if by_sizes else np.asarray([scales[a] for a in given], F32)]
        if by_sizes:
            inputs.append(np.asarray([sizes[a] for a in given], I64))
    return c.case(inputs, attributes, constants={1, 2, 3}, kind="sum")


@operator("GridSample")
def grid_sample(c):
    volume = c.opset >= 20 and c.random.chance(0.3)
    rank = 3 if volume else 2
    batch, dims = c.random.int(1, 2), [c.random.int(1, 5) for _ in range(rank)]
    x = c.random.array((batch, c.random.int(1, 2), *dims), c.floats("T1"), "plain")
    places = [c.random.int(1, 4) for _ in range(rank)]
    grid = c.random.rng.uniform(-1.4, 1.4, (batch, *places, rank))
    if c.random.chance(0.3):
        grid = np.round(grid * 2) / 2
    modes = ["bilinear", "nearest", "bicubic"] if c.opset < 20 else ["linear", "nearest", "cubic"]
    attributes = {}
    if c.random.chance(0.8):
        attributes["mode"] = c.random.pick(modes[:2] if volume else modes)
    if c.random.chance(0.7):
        attributes["padding_mode"] = c.random.pick(["zeros", "border", "reflection"])
    if c.random.chance(0.6):
        attributes["align_corners"] = c.random.int(0, 1)
    return c.case([x, grid.astype(c.floats("T2"))], attributes, kind="sum", rough=True)


@operator("AffineGrid")
def affine_grid(c):
    rank = c.random.int(2, 3)
    batch = c.random.int(1, 2)
    size = np.asarray([batch, c.random.int(1, 2), *[c.random.int(1, 5) for _ in range(rank)]], I64)
    theta = c.random.array((batch, rank, rank + 1), c.floats("T1"), "plain")
    return c.case([theta, size], {"align_corners": c.random.int(0, 1)} if c.random.chance(0.6) else {}, constants={1},
                  kind="sum")


@operator("RoiAlign")
def roi_align(c):
    dtype = c.floats("T1")
    batch, height, width = c.random.int(1, 2), c.random.int(2, 7), c.random.int(2, 7)
    count = c.random.int(1, 3)
    corner = c.random.rng.uniform(0, 3, (count, 2))
    rois = np.concatenate([corner, corner + c.random.rng.uniform(0.2, 5, (count, 2))], axis=1)
    attributes = {}
    for name, value in (("output_height", c.random.int(1, 3)), ("output_width", c.random.int(1, 3)),
                        ("sampling_ratio", c.random.int(0, 3)), ("spatial_scale", c.random.float(0.4, 1.2)),
                        ("mode", c.random.pick(["avg", "max"]))):
        if c.random.chance(0.7):
            attributes[name] = value
    if c.has("coordinate_transformation_mode") and c.random.chance(0.6):
        attributes["coordinate_transformation_mode"] = c.random.pick(["half_pixel", "output_half_pixel"])
    x = c.random.array((batch, c.random.int(1, 2), height, width), dtype, "plain")
    return c.case([x, rois.astype(dtype), c.random.rng.integers(0, batch, count).astype(I64)], attributes, kind="sum")


@operator("NonMaxSuppression")
def suppression(c):
    batch, boxes, classes = c.random.int(1, 2), c.random.int(1, 8), c.random.int(1, 3)
    corner = c.random.rng.uniform(0, 1, (batch, boxes, 2))
    size = c.random.rng.uniform(0.1, 1, (batch, boxes, 2))
    centered = c.random.chance(0.3)
    coordinates = np.concatenate([corner, size if centered else corner + size], axis=2)
    if not centered and c.random.chance(0.3):
        coordinates = coordinates[:, :, [2, 3, 0, 1]]
    inputs = [coordinates.astype(F32), c.random.rng.uniform(0, 1, (batch, classes, boxes)).astype(F32),
              np.asarray([c.random.int(0, 4)], I64), np.asarray([c.random.float(0.0, 0.9)], F32),
              np.asarray([c.random.float(0.0, 0.8)], F32)]
    inputs = inputs[:c.random.int(2, 5)]
    attributes = {"center_point_box": 1} if centered else c.random.pick([{}, {"center_point_box": 0}])
    return c.case(inputs, attributes, constants={2, 3, 4})


@operator("Det")
def determinant(c):
    size = c.random.int(1, 5)
    dims = (*c.random.shape(0, 2, 3), size, size)
    return c.case([c.random.array(dims, c.floats(), c.random.pick(["plain", "whole"]))], kind="sum", rough=True)


@operator("DeformConv")
def deform_conv(c):
    dtype, groups, shifted = c.floats(), c.random.int(1, 2), c.random.int(1, 2)
    # Each group of channels and each group of offsets divides the channels.
    batch, channels, out = c.random.int(1, 2), groups * shifted * c.random.int(1, 2), groups * c.random.int(1, 2)
    while True:
        spatial, kernel = [c.random.int(2, 6) for _ in range(2)], [c.random.int(1, 3) for _ in range(2)]
        attributes = window(c, spatial, kernel)
        if attributes is not None and "auto_pad" not in attributes:
            break
    pads, ones = attributes.get("pads", [0] * 4), [1, 1]
    strides, dilations = attributes.get("strides", ones), attributes.get("dilations", ones)
    places = [(spatial[a] + pads[a] + pads[a + 2] - dilations[a] * (kernel[a] - 1) - 1) // strides[a] + 1
              for a in range(2)]
    attributes.update(group=groups, offset_group=shifted)
    area = kernel[0] * kernel[1]
    inputs = [c.random.array(dims, dtype, "plain", 1.0) for dims in (
        (batch, channels, *spatial), (out, channels // groups, *kernel), (batch, 2 * shifted * area, *places), (out,),
        (batch, shifted * area, *places))]
    inputs[3] = inputs[3] if c.random.chance(0.5) else None
    inputs = inputs if c.random.chance(0.5) else inputs[:4]
    while inputs[-1] is None:
        inputs.pop()
    return c.case(inputs, attributes, kind="sum", rough=True)
