"""Misbehaves when told to by a value of X; doubles every other value.

NaN: fails. 777: answers one row too few. 666: ends the process without a word. A value v between 1000 and 2000:
answers after v - 1000 milliseconds.
"""

import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(pb_utils.get_input_tensor_by_name(request, "X").as_numpy()) for request in requests]

    def _answer(self, x):
        if np.isnan(x).any():
            return pb_utils.InferenceResponse([], pb_utils.TritonError("X has a NaN", pb_utils.TritonError.INVALID_ARG))
        if (x == 666).any():
            os._exit(1)
        delays = x[(x >= 1000) & (x <= 2000)]
        if delays.size:
            time.sleep((float(delays.max()) - 1000) / 1000)  # noqa: TID251 - this is the fault
        y = x * 2
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", y[:-1] if (x == 777).any() else y)])
