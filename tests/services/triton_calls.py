"""Triton's own client, each question a function that answers in plain values.

It runs in a process of its own: its messages have the names of ours, and a process can have a name once.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def process() -> ProcessPoolExecutor:
    """A process to submit the functions below to."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _client(target):
    from tritonclient.grpc import InferenceServerClient  # noqa: PLC0415

    return InferenceServerClient(target)


def describe(target, model):
    """Liveness and readiness, then the server's and the model's metadata as JSON."""
    with _client(target) as client:
        return (
            [client.is_server_live(), client.is_server_ready(), client.is_model_ready(model)],
            client.get_server_metadata(as_json=True),
            client.get_model_metadata(model, as_json=True),
        )


def infer(target, model, inputs, *, outputs=None, **options):
    """(outputs by name in order, id) for inputs (name, datatype, array); `refused` where the server says no."""
    from tritonclient.grpc import InferInput, InferRequestedOutput  # noqa: PLC0415
    from tritonclient.utils import InferenceServerException  # noqa: PLC0415

    given = []
    for name, datatype, array in inputs:
        given.append(InferInput(name, list(array.shape), datatype))
        given[-1].set_data_from_numpy(array)
    wanted = [InferRequestedOutput(name) for name in outputs] if outputs else None
    with _client(target) as client:
        try:
            answer = client.infer(model, given, outputs=wanted, **options)
        except InferenceServerException as error:
            return "refused", error.status(), error.message()
        message = answer.get_response()
        return {output.name: answer.as_numpy(output.name) for output in message.outputs}, message.id


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
