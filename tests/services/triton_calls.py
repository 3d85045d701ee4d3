"""Triton's own client, each question a function that answers in plain values.

It runs in a process of its own: its messages have the names of ours, and a process can have a name once.
"""

from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context


def process() -> ProcessPoolExecutor:
    """A process to submit the functions below to."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _client(target):
    protocol, address = target
    return import_module(f"tritonclient.{protocol}").InferenceServerClient(address)


def describe(target, model):
    """Liveness and readiness, then the server's and the model's metadata and its configuration, as JSON."""
    options = {"as_json": True} if target[0] == "grpc" else {}
    with _client(target) as client:
        return (
            [client.is_server_live(), client.is_server_ready(), client.is_model_ready(model)],
            client.get_server_metadata(**options),
            client.get_model_metadata(model, **options),
        )


def configuration(target, model):
    """A model's configuration as JSON, over HTTP."""
    with _client(target) as client:
        return client.get_model_config(model)


def infer(target, model, inputs, *, outputs=None, form=None, **options):
    """(outputs by name in order, id) for inputs (name, datatype, array); `refused` where the server says no.

    `form` has what only HTTP has: `binary_data` of inputs and of outputs.
    """
    from tritonclient.utils import InferenceServerException  # noqa: PLC0415

    library = import_module(f"tritonclient.{target[0]}")
    asks, answers = form or ({}, {})
    given = []
    for name, datatype, array in inputs:
        given.append(library.InferInput(name, list(array.shape), datatype))
        given[-1].set_data_from_numpy(array, **asks)
    wanted = [library.InferRequestedOutput(name, **answers) for name in outputs] if outputs else None
    with _client(target) as client:
        try:
            answer = client.infer(model, given, outputs=wanted, **options)
        except InferenceServerException as error:
            return "refused", error.status(), error.message()
        told = answer.get_response()
        names, request_id = (
            ([output["name"] for output in told["outputs"]], told["id"])
            if target[0] == "http"
            else ([output.name for output in told.outputs], told.id)
        )
        return {name: answer.as_numpy(name) for name in names}, request_id


def fields():
    """Number, type and label of each field, by message, of Triton's proto."""
    from tritonclient.grpc import service_pb2  # noqa: PLC0415

    return fields_of(service_pb2.DESCRIPTOR)


def fields_of(file):
    found = {}
    for message in file.message_types_by_name.values():
        for each in (message, *message.nested_types):
            found[each.full_name] = {field.name: (field.number, field.type, field.label) for field in each.fields}
    return found
