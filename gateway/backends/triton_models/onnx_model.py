"""Runs an ONNX or OpenVINO graph inside Triton's python backend. Shipped as `1/model.py` of every rendered graph.

Runs in Triton's environment (numpy 1.26) and imports nothing of the gateway. Parameters from the model's
configuration: `engine` ("onnxruntime" or "openvino"), `model_file` (in the version's folder), `intra_op_threads`
(0 = the engine decides), `providers` (ONNX Runtime's, comma separated), `inference_precision` (OpenVINO's
hint, f32 unless named), `graph_name.<output>` (what the graph calls that output, where that is no
name to show), `least.<input>` and `most.<input>` (values outside are refused: not every engine refuses an index beyond
its table, some read there and answer).

All requests of one `execute` call become one run along axis 0 where their shapes allow it. If such a run fails, each
request runs alone, so that one bad request fails alone.
"""
# mypy: ignore-errors
# (runs in Triton, where none of the gateway's types exist)

import json
import os

import numpy as np
import triton_python_backend_utils as pb_utils


class InvalidArgument(ValueError):
    """An input that this model does not take; ONNX Runtime's own such error has the same name."""


class OnnxRuntimeEngine:
    """One ONNX Runtime session on the CPU (or what `providers` names, comma separated)."""

    def __init__(self, path, threads, outputs, parameters):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A spinning pool takes the cores from the gateway and from Triton itself between two small batches.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = parameters.get("providers", "CPUExecutionProvider").split(",")
        self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        self._outputs = outputs

    def run(self, feed, last):
        """Returns the outputs in configured order as arrays of their own."""
        return self._session.run(self._outputs, feed)


class OpenVinoEngine:
    """One OpenVINO infer request on the CPU, compiled for latency."""

    def __init__(self, path, threads, outputs, parameters):
        import openvino

        core = openvino.Core()
        graph = core.read_model(path)
        wanted = [graph.output(name) for name in outputs]
        if len(wanted) < len(graph.outputs):
            graph = openvino.Model(wanted, graph.get_parameters(), graph.friendly_name)
        # Left alone, OpenVINO computes FP32 graphs in BF16 where the CPU can, and answers lose their third digit.
        precision = parameters.get("inference_precision", "f32")
        settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": precision}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = core.compile_model(graph, "CPU", settings)
        self._request = compiled.create_infer_request()
        self._outputs = outputs
        # An input that nothing reads is an input of the model and not of the compiled graph.
        self._read = {name for port in compiled.inputs for name in port.get_names()}
        self._ports = len(compiled.inputs)

    def run(self, feed, last):
        """Returns the outputs in configured order; with `last`, as views that live until the next run."""
        if len(feed) > self._ports:
            feed = {name: array for name, array in feed.items() if name in self._read}
        results = self._request.infer(feed, share_inputs=True, share_outputs=last)
        return [results[name] for name in self._outputs]


ENGINES = {"onnxruntime": OnnxRuntimeEngine, "openvino": OpenVinoEngine}


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self._batched = config.get("max_batch_size", 0) > 0
        self._inputs = [entry["name"] for entry in config["input"]]
        self._outputs = [entry["name"] for entry in config["output"]]
        self._text_inputs = {entry["name"] for entry in config["input"] if entry["data_type"] == "TYPE_STRING"}
        self._text_outputs = {
            index for index, entry in enumerate(config["output"]) if entry["data_type"] == "TYPE_STRING"
        }
        self._dtypes = [pb_utils.triton_string_to_numpy(entry["data_type"]) for entry in config["output"]]
        path = os.path.join(args["model_repository"], args["model_version"], parameters["model_file"])
        engine = ENGINES[parameters["engine"]]
        graph_names = [parameters.get(f"graph_name.{name}", name) for name in self._outputs]
        self._limits = {
            name: (int(parameters[f"least.{name}"]), int(parameters[f"most.{name}"]))
            for name in self._inputs
            if f"most.{name}" in parameters
        }
        self._engine = engine(path, int(parameters.get("intra_op_threads", "0")), graph_names, parameters)

    def execute(self, requests):
        # The common case first and without detours: one request, one run.
        if len(requests) == 1:
            return [self._respond(self._feed(requests[0]), True)]
        if not self._batched:
            return [self._respond(self._feed(request), False) for request in requests]
        feeds = [self._feed(request) for request in requests]
        responses = [None] * len(requests)
        groups = {}
        for index, feed in enumerate(feeds):
            key = tuple((name, array.shape[1:]) for name, array in feed.items())
            groups.setdefault(key, []).append(index)
        last = len(groups) == 1
        for members in groups.values():
            if len(members) == 1 or not self._together(feeds, members, responses, last):
                for index in members:
                    responses[index] = self._respond(feeds[index], False)
        return responses

    def _feed(self, request):
        feed = {}
        for name in self._inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            if tensor is None:
                continue
            array = tensor.as_numpy()
            if name in self._text_inputs:
                texts = [element.decode("utf-8", "replace") for element in array.ravel()]
                array = np.array(texts, dtype=object).reshape(array.shape)
            feed[name] = array
        return feed

    def _respond(self, feed, last):
        try:
            outputs = self._run(feed, last)
            return pb_utils.InferenceResponse([self._tensor(i, array) for i, array in enumerate(outputs)])
        except Exception as error:
            # An invalid argument in ONNX Runtime's words (an index beyond its table, a length that the graph cannot
            # take) is the caller's mistake, and must not look like a broken model.
            invalid = type(error).__name__ == "InvalidArgument"
            code = pb_utils.TritonError.INVALID_ARG if invalid else pb_utils.TritonError.INTERNAL
            return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(error), code))

    def _together(self, feeds, members, responses, last):
        """Runs `members` as one batch; returns False if that failed or the answer cannot be split by rows."""
        rows = [next(iter(feeds[index].values())).shape[0] for index in members]
        total = sum(rows)
        try:
            outputs = self._run(
                {name: np.concatenate([feeds[index][name] for index in members]) for name in feeds[members[0]]}, last
            )
        except Exception:
            return False
        if any(array.ndim == 0 or array.shape[0] != total for array in outputs):
            return False
        start = 0
        for index, count in zip(members, rows, strict=True):
            stop = start + count
            responses[index] = pb_utils.InferenceResponse(
                [self._tensor(i, array[start:stop]) for i, array in enumerate(outputs)]
            )
            start = stop
        return True

    def _run(self, feed, last):
        for name, (least, most) in self._limits.items():
            array = feed[name]
            if array.size and (array.min() < least or array.max() > most):
                found = array[(array < least) | (array > most)].ravel()[0]
                raise InvalidArgument(f"{name} has {found}, which is not in [{least}, {most}]")
        return self._engine.run(feed, last)

    def _tensor(self, index, array):
        if index in self._text_outputs:
            texts = [str(element).encode() for element in np.asarray(array).ravel()]
            array = np.array(texts, dtype=object).reshape(np.shape(array))
        elif array.dtype != self._dtypes[index]:
            array = array.astype(self._dtypes[index])
        return pb_utils.Tensor(self._outputs[index], array)
