"""What clients of gRPC expect of any server: its health, and descriptors of what there is to call. Argument: the server's address."""

import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICES = {
    "grpc.health.v1.Health",
    "reflog.v1.HealthService",
    "reflog.v1.IngestService",
    "reflog.v1.ProtoService",
    "reflog.v2.CaptureService",
    "reflog.v2.EntityService",
    "reflog.v2.SchemaService",
}

channel = grpc.insecure_channel(sys.argv[1])

check = health_pb2_grpc.HealthStub(channel).Check
for service in ["", "reflog.v1.IngestService"]:
    response = check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    assert response.status == health_pb2.HealthCheckResponse.SERVING, (service, response)
try:
    check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=10)
    raise AssertionError("a service that is not there is healthy")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.NOT_FOUND, error

# Both versions of the protocol of reflection have the same messages.
for version in ["v1", "v1alpha"]:
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    answers = list(ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10))
    found = {service.name for answer in answers for service in answer.list_services_response.service}
    assert SERVICES <= found, (version, found)

# A client that has no proto at all calls what it finds.
pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
method = pool.FindServiceByName("reflog.v1.HealthService").FindMethodByName("HealthCheck")
health_check = channel.unary_unary(
    f"/{method.containing_service.full_name}/{method.name}",
    request_serializer=lambda request: request.SerializeToString(),
    response_deserializer=GetMessageClass(method.output_type).FromString,
)
assert health_check(GetMessageClass(method.input_type)(), timeout=10).ok
