r"""The Open Inference Protocol (V2) over gRPC, with health checks and reflection.

`grpc_predict_v2.proto` is KServe's, as its package of release 0.11 has it; its head says what is changed. From the
root of the repository this writes the three modules made of it, and a test holds them to it:

    python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. \
        services/inference/adapters/grpc/grpc_predict_v2.proto
"""
