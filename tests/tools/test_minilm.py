import json

import numpy as np
import pytest

from minilm import BLOCK, quantize, read_safetensors


def restore(integers, scales):
    blocks = integers.reshape(-1, BLOCK) * scales.astype("float64")[:, np.newaxis]
    return blocks.reshape(integers.shape)


def test_the_largest_of_a_block_becomes_127():
    block = np.zeros((1, 64))
    block[0, :4] = [127, -127, 2.4, -0.6]
    integers, scales = quantize(block)
    assert integers.dtype == "int8" and scales.dtype == "float16"
    assert integers[0, :5].tolist() == [127, -127, 2, -1, 0]
    assert scales.tolist() == [1]


def test_every_block_has_its_own_scale():
    integers, scales = quantize(np.repeat([127.0, 254.0], 64).reshape(1, 128))
    assert scales.tolist() == [1, 2] and (integers == 127).all()


def test_no_weight_is_off_by_more_than_half_a_step():
    array = np.random.default_rng(0).normal(0, 0.05, (30, 128))
    integers, scales = quantize(array)
    assert integers.shape == array.shape
    error = np.abs(restore(integers, scales) - array).reshape(-1, BLOCK)
    assert (error.max(axis=1) <= scales.astype("float64") / 2 * (1 + 1e-9)).all()


def test_no_integer_leaves_its_range_where_the_scale_is_too_small_for_float16():
    # 2^-24 is the smallest float16. The scale should be 1.4 of them: the nearest is 1,
    # and 127 * 1.4 = 178 is no 8-bit integer; with 2 of them it is 127 * 0.7 = 89.
    block = np.zeros((1, 64))
    block[0, :2] = np.array([127, -127]) * 1.4 * 2.0**-24
    integers, scales = quantize(block)
    assert integers[0, :3].tolist() == [89, -89, 0]
    assert scales.tolist() == [2 * 2.0**-24]


def test_a_block_of_zeros_stays_zero():
    integers, scales = quantize(np.zeros((2, 64)))
    assert not restore(integers, scales).any()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((1, 64), np.nan), "not finite"),
        (np.full((1, 64), np.inf), "not finite"),
        (np.ones((3, 21)), r"\(3, 21\) has no blocks of 64"),
    ],
)
def test_what_cannot_be_quantized_is_refused(array, message):
    with pytest.raises(SystemExit, match=message):
        quantize(array)


def write_safetensors(arrays):
    header, content = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        first, content = len(content), content + array.tobytes()
        dtype = {"float32": "F32", "int64": "I64"}[str(array.dtype)]
        offsets = [first, len(content)]
        header[name] = dict(dtype=dtype, shape=array.shape, data_offsets=offsets)
    header = json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header + content


def test_safetensors_give_their_float_arrays_by_name():
    arrays = {
        "a.weight": np.arange(6, dtype="float32").reshape(2, 3),
        "position_ids": np.arange(4),
        "b.bias": np.array([0.5], "float32"),
    }
    found = read_safetensors(write_safetensors(arrays))
    assert list(found) == ["a.weight", "b.bias"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[name])


def test_safetensors_with_nan_are_refused():
    with pytest.raises(SystemExit, match="b is not finite"):
        read_safetensors(write_safetensors({"b": np.array([np.nan], "float32")}))
