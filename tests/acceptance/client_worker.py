"""A client process: unmodified tritonclient, driven by JSON lines on stdin. Runs in the client environment.

Each line is {"op": …, "client": "http" | "grpc" | "http_aio" | "grpc_aio", "url": …, …}; each answer line is {"ok": …}
or {"error": message, "status": …}. Tensors travel as {"name", "datatype", "shape", "data"} with flat lists.
"""

import asyncio
import json
import sys

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

MODULES = {"http": httpclient, "grpc": grpcclient, "http_aio": httpaio, "grpc_aio": grpcaio}


def array_of(tensor):
    if tensor["datatype"] == "BYTES":
        flat = np.array([element.encode() for element in tensor["data"]] or [], dtype=np.object_)
    else:
        flat = np.array(tensor["data"], dtype=triton_to_np_dtype(tensor["datatype"]))
    return flat.reshape(tensor["shape"])


def inputs_of(module, call):
    http = module in (httpclient, httpaio)
    inputs = []
    for tensor in call["inputs"]:
        entry = module.InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
        if http:
            entry.set_data_from_numpy(array_of(tensor), binary_data=call.get("binary", True))
        else:
            entry.set_data_from_numpy(array_of(tensor))
        inputs.append(entry)
    outputs = None
    if call.get("outputs") is not None:
        outputs = []
        for name in call["outputs"]:
            keywords = {"class_count": call.get("class_count", 0)}
            if http:
                keywords["binary_data"] = call.get("binary", True)
            outputs.append(module.InferRequestedOutput(name, **keywords))
    return inputs, outputs


def options_of(call):
    keywords = {"model_version": call.get("version", ""), "request_id": call.get("id", "")}
    for key in ("priority", "timeout", "headers", "parameters", "client_timeout"):
        if key in call:
            keywords[key] = call[key]
    for key in ("request_compression_algorithm", "response_compression_algorithm", "compression_algorithm"):
        if key in call:
            keywords[key] = call[key]
    return keywords


def answer_of(result):
    response = result.get_response()
    if not isinstance(response, dict):
        response = {
            "model_name": response.model_name,
            "model_version": response.model_version,
            "id": response.id,
            "outputs": [{"name": output.name} for output in response.outputs],
        }
    outputs = []
    for output in response["outputs"]:
        array = result.as_numpy(output["name"])
        data = [element.decode() for element in array.ravel()] if array.dtype == np.object_ else array.ravel().tolist()
        outputs.append(
            {
                "name": output["name"],
                "datatype": np_to_triton_dtype(array.dtype),
                "shape": list(array.shape),
                "data": data,
            }
        )
    return {**{key: response.get(key, "") for key in ("model_name", "model_version", "id")}, "outputs": outputs}


def plain(value):
    """Protobuf answers of the grpc client as JSON-ready values."""
    if hasattr(value, "DESCRIPTOR"):
        from google.protobuf.json_format import MessageToDict

        return MessageToDict(value, preserving_proto_field_name=True)
    return value


QUERIES = {
    "live": ("is_server_live", []),
    "ready": ("is_server_ready", []),
    "model_ready": ("is_model_ready", ["model", "version"]),
    "server_metadata": ("get_server_metadata", []),
    "model_metadata": ("get_model_metadata", ["model", "version"]),
    "model_config": ("get_model_config", ["model", "version"]),
    "statistics": ("get_inference_statistics", ["model", "version"]),
}


def run_sync(call):
    module = MODULES[call["client"]]
    with module.InferenceServerClient(call["url"]) as client:
        if call["op"] == "infer":
            inputs, outputs = inputs_of(module, call)
            return answer_of(client.infer(call["model"], inputs, outputs=outputs, **options_of(call)))
        method, names = QUERIES[call["op"]]
        return plain(getattr(client, method)(*[call.get(name, "") for name in names]))


async def run_aio(call):
    module = MODULES[call["client"]]
    async with module.InferenceServerClient(call["url"]) as client:
        if call["op"] == "infer":
            inputs, outputs = inputs_of(module, call)
            return answer_of(await client.infer(call["model"], inputs, outputs=outputs, **options_of(call)))
        method, names = QUERIES[call["op"]]
        return plain(await getattr(client, method)(*[call.get(name, "") for name in names]))


def main():
    for line in sys.stdin:
        call = json.loads(line)
        try:
            done = asyncio.run(run_aio(call)) if call["client"].endswith("_aio") else run_sync(call)
            answer = {"ok": done}
        except InferenceServerException as error:
            answer = {"error": error.message(), "status": error.status()}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}", "status": None}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
