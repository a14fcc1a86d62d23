"""A client of the original protocol: learns the schema from the server, makes a method for each type, and sends what it has.

Its modules are made from `original/reflog.proto` alone. Arguments: the server's address, a directory for what it makes itself, and the
directory of `options.proto`.
"""

import importlib
import pathlib
import subprocess
import sys

import grpc

import reflog_pb2 as reflog
import reflog_pb2_grpc as services

address, made, options = sys.argv[1:]
channel = grpc.insecure_channel(address)
ingest = services.IngestServiceStub(channel).Ingest
get_protos = services.ProtoServiceStub(channel).GetProtos

health = services.HealthServiceStub(channel).HealthCheck(reflog.HealthCheckRequest(), timeout=10)
assert health.ok, health

text = get_protos(reflog.GetProtosRequest(), timeout=10).proto_content
assert get_protos(reflog.GetProtosRequest(version="1"), timeout=10).proto_content == text
pathlib.Path(made, "learned.proto").write_text(text)
protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{made}", f"-I{options}", f"--python_out={made}"]
subprocess.run([*protoc, "learned.proto", "options.proto"], check=True)
sys.path.append(made)
learned = importlib.import_module("learned_pb2")
User = learned.User
assert sorted(learned.DESCRIPTOR.message_types_by_name) == ["Team", "User"]


def send(operation, entity_id, payload=b"", entity_type="User", **times):
    record = reflog.IngestRecord(
        entity_type=entity_type, entity_id=entity_id, operation=operation, payload=payload, **times
    )
    response = ingest(record, timeout=10)
    assert response.ok, response


def user(**fields):
    return User(**fields).SerializeToString()


send(reflog.OPERATION_CREATE, "user_123", user(name="Ada", plan="free", team_id="t1"), created_at_utc=1_000)
send(reflog.OPERATION_UPDATE, "user_123", user(plan="team"), updated_at_utc=3_000)
# It came last, and happened between the two.
send(reflog.OPERATION_UPDATE, "user_123", user(status="active", plan="trial"), updated_at_utc=2_000)
send(reflog.OPERATION_CREATE, "user_9", user(name="Bob"), received_at_utc=5)
send(reflog.OPERATION_DELETE, "user_9")


def refused(code, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except grpc.RpcError as error:
        assert error.code() == code, error
    else:
        raise AssertionError(f"{arguments} was taken")


invalid = grpc.StatusCode.INVALID_ARGUMENT
refused(invalid, send, reflog.OPERATION_UNSPECIFIED, "user_1")
refused(invalid, send, reflog.OPERATION_CREATE, "")
refused(invalid, send, reflog.OPERATION_CREATE, "user_1", entity_type="user")
refused(invalid, send, reflog.OPERATION_CREATE, "user_1", payload=b"\xff")
refused(grpc.StatusCode.NOT_FOUND, get_protos, reflog.GetProtosRequest(version="7"), timeout=10)
