"""The messages built from the .proto file, against those of other implementations."""

from __future__ import annotations

import pytest
from tritonclient.grpc import service_pb2

from fnbuild.runtime.grpc_server import proto

MESSAGES = [
    "ServerLiveRequest", "ServerLiveResponse", "ServerReadyRequest", "ServerReadyResponse",
    "ModelReadyRequest", "ModelReadyResponse", "ServerMetadataRequest", "ServerMetadataResponse",
    "ModelMetadataRequest", "ModelMetadataResponse", "ModelMetadataResponse.TensorMetadata",
    "InferParameter", "InferTensorContents", "ModelInferRequest",
    "ModelInferRequest.InferInputTensor", "ModelInferRequest.InferRequestedOutputTensor",
    "ModelInferResponse", "ModelInferResponse.InferOutputTensor",
]  # fmt: skip


def fields(pool, name):
    descriptor = pool.FindMessageTypeByName(f"{proto.PACKAGE}.{name}")
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            field.message_type.full_name if field.message_type else "",
            field.containing_oneof.name if field.containing_oneof else "",
        )
        for field in descriptor.fields
    }


@pytest.mark.parametrize("name", MESSAGES)
def test_each_message_has_the_fields_of_tritons(name):
    assert fields(proto.POOL, name) == fields(service_pb2.DESCRIPTOR.pool, name)


def test_the_methods_have_the_types_of_tritons():
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    for method in proto.service_methods():
        other = theirs[method.name]
        assert method.input_type.full_name == other.input_type.full_name
        assert method.output_type.full_name == other.output_type.full_name


def test_messages_are_read_by_the_other_implementation():
    message = proto.message_class("ModelInferRequest")(model_name="m", id="é")
    tensor = message.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
    tensor.parameters["a"].double_param = 0.5
    tensor.contents.fp32_contents.extend([1, 2])
    theirs = service_pb2.ModelInferRequest.FromString(message.SerializeToString())
    assert str(theirs) == str(message)
