"""From a SavedModel to the bytes of a `.tflite`, in one of four precisions."""

import copy
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from tensorflow.lite.python.convert_phase import ConverterError

from kyolo.errors import InputError
from kyolo.export.errors import ExportError
from kyolo.export.flatbuffer import append, pack, unpack

PRECISIONS = ("float32", "float16", "dynamic", "int8")
TYPES = {"uint8": (schema.TensorType.UINT8, 0), "int8": (schema.TensorType.INT8, -128)}  # type, and what stands for 0
LEARNT = {
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
}


def convert(folder: Path, precision: str, calibration: Sequence[np.ndarray] = ()) -> bytes:
    """Converts a SavedModel of one signature, with ops that every TFLite runtime has built in.

    Args:
        folder: of the SavedModel.
        precision: "float32"; "float16": weights of half the size, the arithmetic is the runtime's choice; "dynamic":
            weights int8, activations quantized by each image's own range; "int8": weights and activations int8, up to
            the last convolutions, behind which all is float.
        calibration: network inputs, (H, W, 3) 0..255, that show int8 which values occur.

    Returns:
        The file's content.

    Raises:
        ExportError: there is an op in it that not every runtime has.
    """
    try:
        return _convert(folder, precision, calibration)
    except ConverterError as error:
        ops = sorted(set(re.findall(r"'tf\.(\w+)' op", str(error))))
        if ops:
            problem = f"expected ops that every runtime has built in, received {', '.join(ops)}"
        else:
            problem = f"the converter failed: {str(error).partition(chr(10))[0]}"
        raise ExportError(f"TFLite: {problem}") from error


def _convert(folder: Path, precision: str, calibration: Sequence[np.ndarray]) -> bytes:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # any other op is an error
    if precision == "float32":
        return converter.convert()
    if precision == "float16":
        return _with_half_weights(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "int8":
        converter.representative_dataset = lambda: ({"images": image[None].astype(np.float32)} for image in calibration)
        return _quantize(converter)
    return converter.convert()


def _with_half_weights(content: bytes) -> bytes:
    """Stores the weights of convolutions in half precision, as TFLite's own conversion does with every constant.

    Half of the factor 1 / width would shift boxes by up to 0.1 pixel, and cost 0.001 AP (measured).
    """
    model = unpack(content)
    graph = model.subgraphs[0]
    weights = dict.fromkeys(operator.inputs[1] for operator in graph.operators if _code(model, operator) in LEARNT)
    halves: dict[int, int] = {}  # buffers; equal weights share one
    restored = []
    for index in weights:
        tensor = graph.tensors[index]
        if model.buffers[tensor.buffer].data is None:  # computed, not stored
            continue
        if tensor.buffer not in halves:
            values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32).astype(np.float16)
            halves[tensor.buffer] = append(
                model.buffers, schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8))
            )
        half = copy.copy(tensor)
        half.name, half.type, half.buffer = tensor.name + b"_half", schema.TensorType.FLOAT16, halves[tensor.buffer]
        tensor.buffer = 0  # the empty one: an operator fills it
        restored.append(_operator(model, schema.BuiltinOperator.DEQUANTIZE, append(graph.tensors, half), index))
    for buffer in halves.keys() - {tensor.buffer for tensor in graph.tensors}:
        model.buffers[buffer] = schema.BufferT()
    graph.operators = restored + graph.operators
    return pack(model)


def _operator(model: schema.ModelT, builtin: int, source: int, target: int) -> schema.OperatorT:
    """An operator of one input and one output, whose kind the model may not know yet."""
    codes = [code.builtinCode for code in model.operatorCodes]
    if builtin not in codes:
        append(model.operatorCodes, schema.OperatorCodeT(builtinCode=builtin, deprecatedBuiltinCode=builtin, version=3))
        codes.append(builtin)
    return schema.OperatorT(opcodeIndex=codes.index(builtin), inputs=[source], outputs=[target])


def _quantize(converter: tf.lite.TFLiteConverter) -> bytes:
    """Quantizes all but what comes behind the last convolutions.

    A side's mean over its bins, and boxes and scores that share a scale of 256 values, cost 0.15 AP (measured). In
    float they take next to no time, and each level keeps a scale of its own.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)  # the debugger has one
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=converter.representative_dataset,
            debug_options=tf.lite.experimental.QuantizationDebugOptions(),
        )
        names = _outputs_behind_the_last_convolutions(unpack(debugger.calibrated_model))
        debugger.options = tf.lite.experimental.QuantizationDebugOptions(
            denylisted_nodes=names,
            denylisted_ops=["TOPK_V2"],  # which has two outputs, and is not found by their names
        )
        return debugger.get_nondebug_quantized_model()


def _outputs_behind_the_last_convolutions(model: schema.ModelT) -> list[str]:
    graph = model.subgraphs[0]
    leads_to_learnt: set[int] = set()  # tensors
    names = []
    for operator in reversed(graph.operators):  # in the order in which they run
        learnt = _code(model, operator) in LEARNT
        if learnt or leads_to_learnt.intersection(operator.outputs):
            leads_to_learnt.update(operator.inputs)
        if not learnt and not leads_to_learnt.intersection(operator.outputs):
            names += [graph.tensors[output].name.decode() for output in operator.outputs]
    return names


def with_types(content: bytes, input_type: str, output_type: str) -> bytes:
    """Gives a quantized file an input and outputs of 8 bits, as TFLite quantizes: real = scale (value - zero point).

    The input has scale 1, so that a uint8 is a pixel. Outputs of floats, all in 0..1, have scale 1/255.

    Args:
        content: of `convert`.
        input_type: "float32", "uint8" or "int8".
        output_type: the same.
    """
    model = unpack(content)
    graph = model.subgraphs[0]
    if input_type != "float32":
        readers = {_code(model, operator) for operator in graph.operators if graph.inputs[0] in operator.inputs}
        if readers != {schema.BuiltinOperator.QUANTIZE}:
            raise InputError(
                f"input_type: expected float32 of a network that reads its pixels as floats too, received {input_type}"
            )
        _quantize_tensor(graph.tensors[graph.inputs[0]], input_type, 1.0)  # read by QUANTIZE, which takes these too
    if output_type != "float32":
        graph.outputs = [
            _append_quantized(model, output, output_type)
            if graph.tensors[output].type == schema.TensorType.FLOAT32
            else output
            for output in graph.outputs
        ]
    return pack(model)


def _append_quantized(model: schema.ModelT, source: int, output_type: str) -> int:
    graph = model.subgraphs[0]
    tensor = copy.copy(graph.tensors[source])
    tensor.name = tensor.name + b"_quantized"
    _quantize_tensor(tensor, output_type, 1 / 255)
    target = append(graph.tensors, tensor)
    graph.operators.append(_operator(model, schema.BuiltinOperator.QUANTIZE, source, target))
    for named in model.signatureDefs[0].outputs:
        if named.tensorIndex == source:
            named.tensorIndex = target
    return target


def _quantize_tensor(tensor: schema.TensorT, name: str, scale: float) -> None:
    tensor.type, zero_point = TYPES[name]
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]


def _code(model: schema.ModelT, operator: schema.OperatorT) -> int:
    return model.operatorCodes[operator.opcodeIndex].builtinCode
